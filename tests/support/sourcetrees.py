"""Source folders of small plugins, as a developer has them."""

from __future__ import annotations

import json
from pathlib import Path

from .wheels import FORMAT_CODE

PROJECT = """
[project]
name = "hypersdk-format-swapped"
version = "{version}"
description = "A format to edit"

[project.entry-points."hypersdk.format"]
swapped = "hypersdk_format_swapped:Plugin"
"""


def make_tree(folder: Path, version: str = "1.0", code: str = FORMAT_CODE) -> Path:
    """A plugin's source folder below `folder`, whose format tells `version`. The file to edit."""
    package = folder / "src" / "hypersdk_format_swapped"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(version=version))
    manifest = {
        "manifest_version": 1, "name": "hypersdk-format-swapped", "api_version": "1.0", "summary": "A format to edit",
        "components": {"format/swapped": {"concurrency": "parallel"}},
    }  # fmt: skip
    (package / "manifest.json").write_text(json.dumps(manifest))
    module = package / "__init__.py"
    module.write_text(code.replace("@version", version).replace("@component", "swapped"))
    return module

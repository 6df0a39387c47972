"""A plugin's source folder as a distribution: pyproject.toml and the modules beside it, without an installation.

`[project]` has the name, version, description and entry points; the modules lie below `src/`, or in the folder itself
when it has none. That is what an editable install would make of it, but for build hooks: what a build backend would
generate (a version from git, compiled modules) is not there, and dependencies are those of the kernel's environment.

Not here: what is in it (discovery), noticing that it changed (sourcewatch).
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypersdk.errors import FailedPrecondition
from importlib_metadata import Distribution, SimplePath
from packaging.version import InvalidVersion, Version

PROJECT = "pyproject.toml"
MAX_PROJECT_BYTES = 1 << 20
NO_VERSION = "0+source"
"""Of a project whose version only its build backend knows (`dynamic`)."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_POINT = re.compile(r"[^\s=\[\]#;][^\s=\[\]]*")


class SourceDistribution(Distribution):
    """What importlib.metadata would say of `folder` if it were installed. Raises FailedPrecondition
    (SOURCE_TREE_INVALID)."""

    def __init__(self, folder: Path) -> None:
        folder = folder.absolute()  # a relative one means another in a child
        self.folder = folder
        source = folder / "src"
        self.modules = source if source.is_dir() else folder
        project = _project(folder / PROJECT)
        name, version = project.get("name"), project.get("version", NO_VERSION)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _invalid(folder, "[project] has no name that a distribution can have")
        try:
            version = str(Version(str(version)))
        except InvalidVersion as exc:
            raise _invalid(folder, f"[project] {exc}") from exc
        summary = " ".join(str(project.get("description", "")).split())
        self._files = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n",
            "entry_points.txt": _points(folder, project.get("entry-points", {})),
            "direct_url.json": json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}}),
        }

    def read_text(self, filename: str | os.PathLike[str]) -> str | None:
        return self._files.get(os.fspath(filename))

    def locate_file(self, path: str | os.PathLike[str]) -> SimplePath:
        return self.modules / path


def _project(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PROJECT_BYTES + 1)
        if len(text) > MAX_PROJECT_BYTES:
            raise _invalid(path.parent, f"{PROJECT} has more than {MAX_PROJECT_BYTES} bytes")
        project = tomllib.loads(text.decode()).get("project")
    except (OSError, ValueError) as exc:  # TOML and UTF-8 errors are ValueErrors
        raise _invalid(path.parent, f"{PROJECT} cannot be read: {exc}") from exc
    if not isinstance(project, dict):
        raise _invalid(path.parent, f"{PROJECT} has no table [project]")
    return project


def _points(folder: Path, groups: object) -> str:
    """`entry-points` in the form of entry_points.txt."""
    lines = []
    for group, points in sorted(groups.items()) if isinstance(groups, dict) else ():
        lines.append(f"[{group}]")
        for name, value in sorted(points.items()) if isinstance(points, dict) else ():
            if not (_POINT.fullmatch(group) and _POINT.fullmatch(name) and _POINT.fullmatch(str(value))):
                raise _invalid(folder, f"[project.entry-points] has {group!r} {name!r} = {value!r}")
            lines.append(f"{name} = {value}")
    return "\n".join(lines) + "\n"


def _invalid(folder: Path, fault: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{folder} is no plugin's source folder: {fault}", reason="SOURCE_TREE_INVALID", metadata={"path": str(folder)}
    )

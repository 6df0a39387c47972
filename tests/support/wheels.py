"""Wheels of small plugins, made by hand: sound ones, and every kind of wrong one."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

FORMAT_CODE = """
from hypersdk.plugin.image_format import ImageFormat


class Plugin(ImageFormat):
    name = "@component"

    def probe(self, head, tail, size):
        return 0

    def open(self, file, options=None):
        raise NotImplementedError

    def create(self, file, size, options=None, resume=None):
        raise NotImplementedError

    def create_options(self):
        return {"version": "@version"}
"""


def make_wheel(
    folder: Path,
    version: str = "1.0",
    *,
    distribution: str = "hypersdk-format-swapped",
    kind: str = "format",
    component: str = "swapped",
    code: str | None = None,
    manifest: Mapping[str, object] | str | None = None,
    requires: tuple[str, ...] = (),
    entry: str = "",
    files: Mapping[str, str] | None = None,
    metadata_version: str = "",
    metadata_name: str = "",
    record: Mapping[str, str | None] | None = None,
) -> Path:
    """A wheel of a plugin; if no other code is given, of a format whose `create_options` tell its version.

    files   more members; not in RECORD when `record` has None for their name
    record  digests to put in place of the true ones
    """
    package = distribution.replace("-", "_")
    info = f"{package}-{version}.dist-info"
    if manifest is None:
        manifest = {
            "manifest_version": 1, "name": distribution, "api_version": "1.0", "summary": "A format to swap",
            "components": {f"{kind}/{component}": {"concurrency": "parallel"}},
        }  # fmt: skip
    if code is None:
        code = FORMAT_CODE
    members = {
        f"{package}/__init__.py": code.replace("@version", version).replace("@component", component),
        f"{package}/manifest.json": manifest if isinstance(manifest, str) else json.dumps(manifest),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {metadata_name or distribution}\n"
        f"Version: {metadata_version or version}\n" + "".join(f"Requires-Dist: {r}\n" for r in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[hypersdk.{kind}]\n{component} = {entry or package + ':Plugin'}\n",
        **(files or {}),
    }  # fmt: skip
    if manifest == "":
        del members[f"{package}/manifest.json"]
    rows = []
    for name, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        told = (record or {}).get(name, f"sha256={digest}")
        if told is not None:
            rows.append(f"{name},{told},{len(text.encode())}\n")
    rows.append(f"{info}/RECORD,,\n")
    path = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(rows))
    return path

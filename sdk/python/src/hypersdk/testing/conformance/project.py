"""Project: a plugin at a path, read without importing it.

A path is a source folder (`pyproject.toml`, modules below `src/` or beside it) or a wheel. What cannot be read is
noted, for the checks to tell.
"""

from __future__ import annotations

import configparser
import json
import tempfile
import tomllib
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.parser import Parser
from pathlib import Path
from typing import Any

from hypersdk.errors import HyperError, InvalidArgument, NotFound
from hypersdk.plugin.hostcommand import INTERPRETERS
from hypersdk.plugin.manifest import Manifest

GROUP = "hypersdk."
SAMPLES = "conformance.json"
_MAX_UNPACKED = 512 << 20


@dataclass
class Project:
    """A plugin to judge.

    root           the source folder, or where the wheel was unpacked
    modules        what goes on the module path
    entries        component → `module:Class`
    raw            the manifest's JSON, whatever it is; None when there is none or it is no JSON
    manifest       parsed; None when `manifest_fault` says why not
    requires       what the distribution requires, as written
    samples        component → `config`, `secrets`, `spec`, `files`, `requests` to try it with: `tests/conformance.json`
    """

    path: Path
    root: Path
    modules: Path
    is_wheel: bool
    distribution: str = ""
    version: str = ""
    requires_python: str = ""
    license: str = ""
    readme: str = ""
    requires: tuple[str, ...] = ()
    entries: dict[str, str] = field(default_factory=dict)
    raw: Any = None
    manifest_path: Path | None = None
    manifest: Manifest | None = None
    manifest_fault: str = ""
    samples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tests(self) -> Path | None:
        folder = self.root / "tests"
        return folder if folder.is_dir() and not self.is_wheel else None

    def host_command(self) -> tuple[str, ...]:
        """What starts its host, made absolute; empty for a Python plugin. Any interpreter is allowed here. Raises
        FailedPrecondition (HOST_COMMAND_MISSING, HOST_COMMAND_REFUSED)."""
        host = self.manifest.host if self.manifest is not None else None
        if host is None or self.manifest_path is None:
            return ()
        return host.resolve(self.manifest_path.parent, (*INTERPRETERS, host.command[0]))

    def keep_kinds(self, kinds: Collection[str]) -> None:
        """Look at components of these kinds alone."""
        assert self.manifest is not None
        chosen = {n: c for n, c in self.manifest.components.items() if c.kind in kinds}
        self.manifest = replace(self.manifest, components=chosen)
        self.entries = {n: e for n, e in self.entries.items() if n.partition("/")[0] in kinds}

    def packages(self) -> list[Path]:
        """The folders that the entry points lead into."""
        tops = {entry.partition(":")[0].partition(".")[0] for entry in self.entries.values()}
        return [folder for top in sorted(tops) if (folder := self.modules / top).is_dir()]


@contextmanager
def open_project(path: Path) -> Iterator[Project]:
    """The plugin at `path`. Raises NotFound (PLUGIN_SOURCE_MISSING), InvalidArgument (PLUGIN_SOURCE_INVALID)."""
    path = path.absolute()
    if path.is_dir():
        yield _read(_tree(path))
    elif path.suffix == ".whl" and path.is_file():
        with tempfile.TemporaryDirectory(prefix="hypersdk-wheel-") as folder:
            yield _read(_wheel(path, Path(folder)))
    else:
        raise NotFound(
            f"{str(path)!r} is neither a plugin's source folder nor a wheel", reason="PLUGIN_SOURCE_MISSING",
            metadata={"path": str(path)},
        )  # fmt: skip


def _tree(path: Path) -> Project:
    try:
        document = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))
        data = document["project"]
        points = data.get("entry-points", {})
        entries = {
            f"{group.removeprefix(GROUP)}/{name}": str(value)
            for group, rows in points.items() if group.startswith(GROUP)
            for name, value in rows.items()
        }  # fmt: skip
        licence, readme = data.get("license", ""), data.get("readme", "")
        return Project(
            path, path, path / "src" if (path / "src").is_dir() else path, False,
            str(data.get("name", "")), str(data.get("version", "")), str(data.get("requires-python", "")),
            str(licence.get("text", licence.get("file", "")) if isinstance(licence, dict) else licence),
            str(readme.get("file", "") if isinstance(readme, dict) else readme),
            tuple(map(str, data.get("dependencies", ()))), entries,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as exc:
        raise _invalid(path, f"pyproject.toml: {type(exc).__name__}: {exc}") from exc


def _wheel(path: Path, folder: Path) -> Project:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _MAX_UNPACKED:
                raise _invalid(path, f"it unpacks to more than {_MAX_UNPACKED} bytes")
            archive.extractall(folder)  # zipfile drops `..` and absolute names
        (info,) = folder.glob("*.dist-info")
        metadata = Parser().parsestr((info / "METADATA").read_text("utf-8"))
        points = configparser.ConfigParser(delimiters=("=",), interpolation=None)
        points.optionxform = str  # type: ignore[assignment,method-assign]
        points.read_string((info / "entry_points.txt").read_text("utf-8"))
    except (OSError, ValueError, zipfile.BadZipFile, configparser.Error) as exc:
        raise _invalid(path, f"{type(exc).__name__}: {exc}") from exc
    entries = {
        f"{group.removeprefix(GROUP)}/{name}": value
        for group in points.sections() if group.startswith(GROUP)
        for name, value in points[group].items()
    }  # fmt: skip
    return Project(
        path, folder, folder, True, str(metadata["Name"] or ""), str(metadata["Version"] or ""),
        str(metadata["Requires-Python"] or ""), str(metadata["License-Expression"] or metadata["License"] or ""),
        "METADATA" if str(metadata.get_payload() or "").strip() else "",
        tuple(metadata.get_all("Requires-Dist") or ()), entries,
    )  # fmt: skip


def _read(project: Project) -> Project:
    """Its manifest and samples."""
    candidates = [folder / "manifest.json" for folder in project.packages()]
    project.manifest_path = next((path for path in candidates if path.is_file()), None)
    if project.manifest_path is None:
        project.manifest_fault = "there is no manifest.json in the package that the entry points lead into"
        return project
    text = project.manifest_path.read_bytes()
    try:
        project.raw = json.loads(text)
        project.manifest = Manifest.parse(text)
    except HyperError as exc:
        project.manifest_fault = exc.message
    except ValueError as exc:
        project.manifest_fault = f"manifest.json is no JSON: {exc}"
    if project.tests is not None and (project.tests / SAMPLES).is_file():
        try:
            found = json.loads((project.tests / SAMPLES).read_text("utf-8"))
            project.samples = found if isinstance(found, dict) else {}
        except ValueError as exc:
            raise _invalid(project.path, f"tests/{SAMPLES} is no JSON: {exc}") from exc
    return project


def _invalid(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"{str(path)!r} cannot be read as a plugin: {why}", reason="PLUGIN_SOURCE_INVALID", metadata={"path": str(path)}
    )

"""From a kind and a name to the files of a plugin.

`plan` decides everything and writes nothing; `Scaffold.write` writes all of it into a new directory, or nothing: the
files are made beside the target under another name, which is renamed at the end.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from hypersdk.errors import AlreadyExists, FieldViolation, InvalidArgument, NotFound

_SUFFIX = ".tmpl"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_RESERVED = frozenset({"new", "test", "tests", "plugin", "hypersdk"})

KINDS: Mapping[str, str] = {
    "provider": "hypersdk[data]",
    "format": "hypersdk[data]",
    "storage": "hypersdk",
    "pricing": "hypersdk",
    "task": "hypersdk",
    "notifier": "hypersdk",
    "secrets": "hypersdk",
    "service": "hypersdk",
}
"""The kinds that have a template → what a plugin of the kind requires."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What will be written: `files` are relative path → text, in order of path."""

    directory: Path
    files: Mapping[str, str]

    def write(self) -> None:
        """Raises AlreadyExists (DIRECTORY_EXISTS), NotFound (DIRECTORY_MISSING), OSError; then nothing was written."""
        _must_be_free(self.directory)
        staging = Path(tempfile.mkdtemp(prefix=f".{self.directory.name}-", dir=self.directory.parent))
        try:
            staging.chmod(0o755)
            for name, text in self.files.items():
                path = staging / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            staging.rename(self.directory)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def plan(kind: str, name: str, directory: Path | None = None) -> Scaffold:
    """The files of a plugin `hypersdk-<kind>-<name>`, for a new directory of that name if no other is given.

    Raises InvalidArgument (PLUGIN_KIND_UNKNOWN, PLUGIN_NAME_INVALID), and what Scaffold.write would of the directory.
    """
    if kind not in KINDS:
        raise InvalidArgument(
            f"there is no template for kind {kind[:40]!r}; there are templates for {', '.join(KINDS)}",
            reason="PLUGIN_KIND_UNKNOWN",
            violations=(FieldViolation("kind", f"one of {', '.join(KINDS)}"),),
        )
    if not _NAME.fullmatch(name) or "--" in name or name in _RESERVED or name == kind:
        rule = "2 to 40 lower-case letters, digits and single hyphens, beginning with a letter, such as 'acme-cloud'"
        raise InvalidArgument(
            f"{name[:80]!r} cannot name a plugin; a name is {rule}",
            reason="PLUGIN_NAME_INVALID",
            violations=(FieldViolation("name", rule),),
        )
    words = variables(kind, name)
    target = (directory or Path(words["distribution"])).absolute()
    _must_be_free(target)
    found: dict[str, str] = {}
    for folder in ("common", kind):
        for path, text in _templates(files("hypersdk.templates") / "files" / folder):
            found[_path(path, words["package"])] = Template(text).substitute(words)
    return Scaffold(target, dict(sorted(found.items())))


def variables(kind: str, name: str) -> dict[str, str]:
    """What templates may name."""
    distribution = f"hypersdk-{kind}-{name}"
    return {
        "kind": kind,
        "name": name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "class_name": "".join(part.capitalize() for part in name.split("-")) + _CLASS_SUFFIX.get(kind, kind.title()),
        "requires": KINDS[kind],
        "magic": f"{name.upper():.<8.8}",
        "reason_prefix": name.upper().replace("-", "_"),
    }


_CLASS_SUFFIX = {"pricing": "Prices"}


def _templates(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield prefix + entry.name.removesuffix(_SUFFIX), entry.read_text("utf-8")


def _path(template: str, package: str) -> str:
    parts = (re.sub(r"^dot_", ".", part) for part in template.split("/"))
    return "/".join(package if part == "__package__" else part for part in parts)


def _must_be_free(directory: Path) -> None:
    if directory.exists() or directory.is_symlink():
        raise AlreadyExists(
            f"{str(directory)!r} exists; nothing is overwritten, choose another directory with --dir",
            reason="DIRECTORY_EXISTS",
            metadata={"path": str(directory)},
        )
    if not directory.parent.is_dir():
        raise NotFound(
            f"{str(directory.parent)!r} is no directory; make it first",
            reason="DIRECTORY_MISSING",
            metadata={"path": str(directory.parent)},
        )

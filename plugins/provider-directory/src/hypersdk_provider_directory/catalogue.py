"""Which files of the directory are machines, in order of name, without opening images.

A machine is an image file with a known extension, an `.ovf` or an `.ova`. Files that a package of the
directory names belong to that package, and the extents of a split VMDK to the descriptor that names them;
neither is a machine of its own. Descriptors are read once and remembered until their file changes; nothing
else is opened.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hypersdk.data.ovf.names import printable
from hypersdk.errors import FailedPrecondition, HyperError, PermissionDenied, from_exception

from hypersdk_provider_directory.names import resource_id
from hypersdk_provider_directory.package import Package, read_package

IMAGE_FORMATS = {
    "dd": "raw", "img": "", "qcow": "", "qcow2": "qcow2", "qed": "qed", "raw": "raw", "vdi": "vdi", "vhd": "vpc",
    "vhdx": "vhdx", "vmdk": "vmdk",
}  # fmt: skip
"""Extension → format, "" where people use the extension for several formats and the content decides."""
PACKAGES = frozenset({"ovf", "ova"})

_EXTENT = re.compile(r"^(?P<stem>.+)-(?:[fs]\d{3,}|flat|delta|sesparse)\.vmdk$", re.IGNORECASE | re.DOTALL)
_MAX_DESCRIPTOR = 64 << 10
_DESCRIPTOR_MARK = b"# Disk DescriptorFile"
_MAX_REMEMBERED = 20_000

_Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One machine's file. `extension` in lower case, without the dot."""

    name: str
    extension: str

    @property
    def stem(self) -> str:
        return self.name[: -len(self.extension) - 1]

    @property
    def id(self) -> str:
        return resource_id(self.name, self.extension)


class Catalogue:
    """Thread-safe. `root` is the directory as the user named it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._packages: dict[str, tuple[_Identity, Package | HyperError]] = {}
        self._extents: dict[str, tuple[_Identity, frozenset[bytes]]] = {}

    def entries(self) -> list[Entry]:
        """All machines, ordered by the bytes of their names. Raises FailedPrecondition
        (DIRECTORY_MISSING)."""
        names = self._names()
        found = [Entry(name, extension) for name in names if (extension := _extension(name))]
        hidden = self._hidden(found)
        return sorted((e for e in found if e.name not in hidden), key=lambda e: os.fsencode(e.name))

    def package(self, name: str) -> Package:
        """The package of a `.ovf` or `.ova`. Raises as `read_package` does; an error is remembered as
        well."""
        path = self.path(name)
        identity = _identity(path)
        with self._lock:
            held = self._packages.get(name)
        if held is None or held[0] != identity:
            try:
                held = (identity, read_package(path))
            except HyperError as exc:
                held = (identity, exc)
            with self._lock:
                if len(self._packages) >= _MAX_REMEMBERED:
                    self._packages.clear()
                self._packages[name] = held
        if isinstance(held[1], HyperError):
            raise held[1]
        return held[1]

    def path(self, name: str) -> Path:
        """The file's real path. Raises PermissionDenied (LINK_LEAVES_DIRECTORY) for a link to elsewhere."""
        real = Path(os.path.realpath(self.root / name))
        if real.parent != Path(os.path.realpath(self.root)):
            raise PermissionDenied(
                f"{printable(name)!r} is a link out of the directory, which is not followed; copy the image into it",
                reason="LINK_LEAVES_DIRECTORY", metadata={"name": printable(name)},
            )  # fmt: skip
        return real

    def _names(self) -> list[str]:
        """Regular files, and links whose target is checked when it is used."""
        try:
            with os.scandir(self.root) as found:
                return [e.name for e in found if e.is_file(follow_symlinks=False) or e.is_symlink()]
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FailedPrecondition(
                f"there is no directory {str(self.root)!r}; correct the connection's path or mount it",
                reason="DIRECTORY_MISSING", metadata={"path": str(self.root)},
            ) from exc  # fmt: skip
        except OSError as exc:
            raise from_exception(exc, doing="listing the directory") from exc

    def _hidden(self, found: list[Entry]) -> set[str]:
        """Names that belong to a package or to a VMDK descriptor."""
        hidden: set[str] = set()
        there = {entry.name: entry for entry in found}
        for entry in found:
            if entry.extension == "ovf":
                hidden.update(self._claimed(entry.name))
            match = _EXTENT.match(entry.name)
            if match is None:
                continue
            for descriptor in _siblings(match["stem"], there):
                if os.fsencode(entry.name) in self._extents_of(descriptor):
                    hidden.add(entry.name)
        return hidden

    def _claimed(self, name: str) -> Iterator[str]:
        try:
            references = self.package(name).descriptor.references
        except HyperError:
            return  # the machine itself tells its error; a broken descriptor claims nothing
        for reference in references:
            yield reference.href
            yield unquote(reference.href)

    def _extents_of(self, descriptor: str) -> frozenset[bytes]:
        """The quoted names in a text descriptor of VMDK (VMware, Virtual Disk Format 5.0, "The Extent
        Description")."""
        try:
            path = self.path(descriptor)
            identity = _identity(path)
            held = self._extents.get(descriptor)
            if held is None or held[0] != identity:
                text = b"" if identity[2] > _MAX_DESCRIPTOR else path.read_bytes()
                quoted = re.findall(rb'"([^"\n]{1,255})"', text) if text.startswith(_DESCRIPTOR_MARK) else []
                held = (identity, frozenset(quoted))
                self._extents[descriptor] = held
            return held[1]
        except (OSError, HyperError):
            return frozenset()  # unreadable, so it names nothing; opening the machine will tell why


def _siblings(stem: str, there: dict[str, Entry]) -> Iterator[str]:
    """Descriptors that may name an extent of this stem: `web-flat.vmdk` and `web-000001-delta.vmdk` alike."""
    for suffix in (".vmdk", ".VMDK"):
        if stem + suffix in there:
            yield stem + suffix


def _extension(name: str) -> str:
    stem, dot, extension = name.rpartition(".")
    extension = extension.lower()
    known = extension in IMAGE_FORMATS or extension in PACKAGES
    return extension if stem and dot and known else ""


def _identity(path: Path) -> _Identity:
    try:
        status = path.stat()
    except OSError as exc:
        raise from_exception(exc, doing="looking at a package") from exc
    if not stat.S_ISREG(status.st_mode):
        raise PermissionDenied(f"{printable(path.name)!r} is not a regular file", reason="NOT_A_REGULAR_FILE")
    return (status.st_ino, status.st_mtime_ns, status.st_size)

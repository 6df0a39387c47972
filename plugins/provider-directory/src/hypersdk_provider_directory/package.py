"""OVF packages of the directory: where the image of each disk lies.

What a package is and which files it may name is `hypersdk.data.ovf`'s affair; here its files become windows: a
member of an archive where it lies, or a file beside the descriptor.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf import package as ovf_package
from hypersdk.data.ovf.descriptor import Descriptor, OvfDisk
from hypersdk.data.ovf.names import refused
from hypersdk.data.ovf.spool import unpacked_limit
from hypersdk.errors import from_exception


@dataclass(frozen=True, slots=True)
class Window:
    """[base, base+length) of the file `path`; `length` -1: all of it. `unpack_limit` > 0: a gzip file, of at most
    so many bytes when it is unpacked."""

    path: Path
    base: int = 0
    length: int = -1
    unpack_limit: int = 0


@dataclass(frozen=True, slots=True)
class Package:
    """A package with the place it came from."""

    path: Path
    content: ovf_package.Package

    @property
    def descriptor(self) -> Descriptor:
        return self.content.descriptor

    def locate(self, disk: OvfDisk) -> Window:
        """Where the disk's image lies. Raises PermissionDenied (REFERENCE_REFUSED), NotFound
        (REFERENCED_FILE_MISSING), Unsupported (split, delta, compressed by
        anything but gzip)."""
        reference = ovf_package.check_readable(self.content, disk)
        limit = unpacked_limit(disk, reference) if reference.compression else 0
        if self.content.members is not None:
            member = self.content.member(reference)
            return Window(self.path, member.offset, member.size, limit)
        names = self.content.names(reference)
        for name in names:
            window = self._beside(name)
            if window is not None:
                return replace(window, unpack_limit=limit)
        raise self.content.missing(names[-1])

    def _beside(self, name: str) -> Window | None:
        path = self.path.parent / name
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(mode):
            raise refused(self.content.what, name, "is a link, a directory or a device")
        return Window(path)


def read_package(path: Path) -> Package:
    """The package whose `.ovf` or `.ova` is `path`, a regular file. Raises as `hypersdk.data.ovf.package` does."""
    try:
        with ImageFile.open(path) as file:
            return Package(path, ovf_package.read_package(file))
    except OSError as exc:
        raise from_exception(exc, doing="reading a package") from exc

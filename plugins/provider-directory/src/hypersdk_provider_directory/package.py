"""OVF packages: a descriptor and the files it may name: beside it (`.ovf`), or in the same archive (`.ova`).

The rule: an OVF's file is a plain name of a regular file in the OVF's own directory, an OVA's a plain name
of a plain member of the same archive. Everything else is refused by a typed error and never opened.

An `.ova` is a tar archive (DSP0243 section 5.2: ustar, the descriptor first). Its members are used where
they lie, as windows of the archive; nothing is unpacked.
"""

from __future__ import annotations

import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hypersdk.errors import MalformedImage, NotFound, PermissionDenied, Unsupported, from_exception

from hypersdk_provider_directory import ovf, xml
from hypersdk_provider_directory.names import printable

_MAX_MEMBERS = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """[base, base+length) of the file `path`; `length` -1: all of it."""

    path: Path
    base: int = 0
    length: int = -1


@dataclass(frozen=True, slots=True)
class Package:
    """A descriptor with the place it came from. `members` of an archive by name; None for a plain OVF."""

    path: Path
    descriptor: ovf.Descriptor
    members: dict[str, Window] | None = None

    def locate(self, disk: ovf.OvfDisk) -> Window:
        """Where the disk's image lies. Raises PermissionDenied (REFERENCE_REFUSED), NotFound
        (REFERENCED_FILE_MISSING), Unsupported (compressed, split, delta)."""
        reference = disk.file
        assert reference is not None
        what = printable(self.path.name)
        for wrong, reason, problem in (
            (disk.parent, "OVF_DISK_HAS_PARENT", "is a delta of another disk; merge it before exporting"),
            (reference.compression, "OVF_COMPRESSION_UNSUPPORTED", "is compressed as a whole; unpack it"),
            (reference.chunk_bytes, "OVF_SPLIT_FILE_UNSUPPORTED", "is split into chunks; join them"),
        ):
            if wrong:
                raise Unsupported(f"{what}: disk {disk.id[:60]!r} {problem}", reason=reason)
        names = [plain_name(what, reference.href)]
        if "%" in reference.href:  # hrefs are URIs, but not every product escapes them
            names.append(plain_name(what, unquote(reference.href)))
        for name in names:
            window = self._member(name) if self.members is not None else self._beside(name)
            if window is not None:
                return window
        raise NotFound(
            f"{what} names {names[-1][:80]!r}, which is not {'in it' if self.members is not None else 'beside it'}",
            reason="REFERENCED_FILE_MISSING", metadata={"name": printable(names[-1])},
        )  # fmt: skip

    def _member(self, name: str) -> Window | None:
        assert self.members is not None
        return self.members.get(name)

    def _beside(self, name: str) -> Window | None:
        path = self.path.parent / name
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(mode):
            raise refused(printable(self.path.name), name, "is a link, a directory or a device")
        return Window(path)


def plain_name(what: str, href: str) -> str:
    """`href` if it is a plain file name; PermissionDenied (REFERENCE_REFUSED) otherwise."""
    if href in {"", ".", ".."} or any(c in href for c in "/\\\0") or "://" in href or len(os.fsencode(href)) > 255:
        raise refused(what, href, "is not a plain file name in the package")
    return href


def refused(what: str, name: str, why: str) -> PermissionDenied:
    return PermissionDenied(
        f"{what} names {name[:80]!r}, which {why}; such references are never followed",
        reason="REFERENCE_REFUSED", metadata={"name": printable(name[:255])},
    )  # fmt: skip


def read_package(path: Path) -> Package:
    """The package whose `.ovf` or `.ova` is `path`, a regular file. Raises what `ovf.read` raises, and
    MalformedImage (OVA_MALFORMED, OVA_MEMBER_REFUSED)."""
    what = printable(path.name)
    try:
        with path.open("rb") as file:
            if path.suffix.lower() != ".ova":
                return Package(path, ovf.read(file.read(xml.MAX_BYTES + 1), what))
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members = _members(archive, path, what)
            descriptor = next((window for name, window in members.items() if name.lower().endswith(".ovf")), None)
            if descriptor is None:
                raise MalformedImage(f"{what} holds no .ovf descriptor", reason="OVA_MALFORMED")
            file.seek(descriptor.base)
            data = file.read(min(descriptor.length, xml.MAX_BYTES + 1))
            return Package(path, ovf.read(data, what), members)
    except tarfile.TarError as exc:
        raise MalformedImage(
            f"{what} is no tar archive: {exc}", structure="tar header", reason="OVA_MALFORMED"
        ) from exc
    except OSError as exc:
        raise from_exception(exc, doing=f"reading {what}") from exc


def _members(archive: tarfile.TarFile, path: Path, what: str) -> dict[str, Window]:
    size = path.stat().st_size
    out: dict[str, Window] = {}
    for member in archive:
        plain = member.isreg() and not member.issparse() and not any(c in member.name for c in "/\\\0")
        if not plain or member.name in out or member.name in {"", ".", ".."} or len(out) >= _MAX_MEMBERS:
            raise MalformedImage(
                f"{what}: member {member.name[:80]!r} is no plain file with a plain name, comes twice, or is one of "
                f"more than {_MAX_MEMBERS}; the archive is refused",
                structure="tar member", offset=member.offset, reason="OVA_MEMBER_REFUSED",
            )  # fmt: skip
        if member.offset_data + member.size > size:
            raise MalformedImage(
                f"{what}: member {member.name[:80]!r} is cut off; the archive is truncated",
                structure="tar member", offset=member.offset, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        out[member.name] = Window(path, member.offset_data, member.size)
    return out

"""A package: its descriptor, and which files it may name.

The rule: an OVF's file is a plain name of a regular file in the OVF's own directory, an OVA's a plain name of a plain
member of the same archive. Everything else is refused by a typed error and never opened. Members of an archive are used
where they lie; nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf import xml
from hypersdk.data.ovf.archive import BLOCK, Member, parse_header, read_members
from hypersdk.data.ovf.descriptor import Descriptor, FileReference, OvfDisk
from hypersdk.data.ovf.descriptor import read as read_descriptor
from hypersdk.data.ovf.names import plain_name, printable
from hypersdk.errors import MalformedImage, NotFound, Unsupported


@dataclass(frozen=True, slots=True)
class Package:
    """`what` is the package's name for people. `members` of an archive by name; None for a plain OVF, whose files lie
    beside it. `manifest`, `certificate`: names of those members, or empty."""

    what: str
    descriptor: Descriptor
    descriptor_name: str
    members: Mapping[str, Member] | None = None
    manifest: str = ""
    certificate: str = ""

    def names(self, reference: FileReference) -> list[str]:
        """The plain names that a reference may mean, likeliest first. Raises PermissionDenied (REFERENCE_REFUSED)."""
        names = [plain_name(self.what, reference.href)]
        if "%" in reference.href:  # hrefs are URIs, but not every product escapes them
            names.append(plain_name(self.what, unquote(reference.href)))
        return names

    def member(self, reference: FileReference) -> Member:
        """The member of this archive. Raises as `names`, and NotFound (REFERENCED_FILE_MISSING)."""
        assert self.members is not None
        names = self.names(reference)
        found = next((self.members[name] for name in names if name in self.members), None)
        if found is None:
            raise self.missing(names[-1])
        return found

    def missing(self, name: str) -> NotFound:
        return NotFound(
            f"{self.what} names {name[:80]!r}, which is not {'beside it' if self.members is None else 'in it'}",
            reason="REFERENCED_FILE_MISSING", metadata={"name": printable(name)},
        )  # fmt: skip


def check_readable(package: Package, disk: OvfDisk) -> FileReference:
    """The disk's file, if it is one whole image. Raises Unsupported (OVF_DISK_HAS_PARENT, OVF_SPLIT_FILE_UNSUPPORTED,
    OVF_COMPRESSION_UNSUPPORTED for anything but gzip)."""
    reference = disk.file
    assert reference is not None
    subject = f"{package.what}: disk {disk.id[:60]!r}"
    if disk.parent:
        raise Unsupported(
            f"{subject} is a delta of another disk; merge it before exporting", reason="OVF_DISK_HAS_PARENT"
        )
    if reference.chunk_bytes:
        raise Unsupported(f"{subject} is split into chunks; join them", reason="OVF_SPLIT_FILE_UNSUPPORTED")
    if reference.compression not in {"", "gzip"}:
        raise Unsupported(f"{subject} is compressed as a whole; unpack it", reason="OVF_COMPRESSION_UNSUPPORTED")
    return reference


def read_package(file: ImageFile) -> Package:
    """The package whose `.ovf` or `.ova` is `file`; content decides which. Raises what `descriptor.read` and
    `archive.read_members` raise, and MalformedImage (OVA_MALFORMED) for an archive without its one descriptor."""
    what = printable(file.path.name)
    is_archive = parse_header(file.pread(0, min(BLOCK, file.size))) is not None
    if not is_archive and file.path.suffix.lower() != ".ova":
        data = file.pread(0, min(file.size, xml.MAX_BYTES + 1), structure="OVF descriptor")
        return Package(what, read_descriptor(data, what), file.path.name)
    members = read_members(file)
    name = _only(members, ".ovf", what)
    if not name:
        raise MalformedImage(f"{what} holds no .ovf descriptor", structure="tar member", reason="OVA_MALFORMED")
    member = members[name]
    data = file.pread(member.offset, min(member.size, xml.MAX_BYTES + 1), structure="OVF descriptor")
    return Package(
        what, read_descriptor(data, what), name, members, _only(members, ".mf", what), _only(members, ".cert", what)
    )


def _only(members: Mapping[str, Member], suffix: str, what: str) -> str:
    """The name of the one member with that suffix, or empty. Two would leave open which one counts."""
    found = [name for name in members if name.lower().endswith(suffix)]
    if len(found) > 1:
        raise MalformedImage(
            f"{what} holds {len(found)} members that end in {suffix}, and a package has one",
            structure="tar member", reason="OVA_MALFORMED",
        )  # fmt: skip
    return found[0] if found else ""


def open_reference(file: ImageFile, package: Package, reference: FileReference) -> ImageFile:
    """The file that a reference of the package `file` means, as its own ImageFile. Raises as `Package.member` and
    `ImageFile.open_sibling`."""
    if package.members is not None:
        return open_member(file, package.member(reference))
    names = package.names(reference)
    for name in names[:-1]:
        try:
            return file.open_sibling(name, structure="OVF descriptor")
        except NotFound:
            continue  # the unescaped name is next
    return file.open_sibling(names[-1], structure="OVF descriptor")


def open_member(file: ImageFile, member: Member) -> ImageFile:
    return file.window(member.offset, member.size, name=member.name)

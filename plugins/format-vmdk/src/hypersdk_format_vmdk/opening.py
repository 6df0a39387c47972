"""From a file to a VmdkSource: which descriptor, which extents, which parent. The one place that opens other files.

Other files are opened through ImageFile.open_sibling only, which refuses anything but plain names of regular files in
the image's own directory. A disk that depends on a parent is never read without it.
"""

from __future__ import annotations

from typing import Any

from hypersdk.data.backing import Seen, open_parent
from hypersdk.data.formatoptions import Chain
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage, PermissionDenied, Unsupported

from hypersdk_format_vmdk.cowd import parse_cowd
from hypersdk_format_vmdk.descriptor import Descriptor, ExtentLine, looks_like_descriptor, parse_descriptor
from hypersdk_format_vmdk.extents import DiskExtent, FlatExtent, SparseExtent, ZeroExtent
from hypersdk_format_vmdk.header import FLAG_ZERO_GRAIN, SparseHeader, parse_header
from hypersdk_format_vmdk.layout import (
    CID_NONE,
    COWD_MAGIC,
    HOSTED_MAGIC,
    MAX_DESCRIPTOR,
    SECTOR,
    SESPARSE_MAGIC,
)
from hypersdk_format_vmdk.markers import read_footer
from hypersdk_format_vmdk.sesparse import parse_sesparse
from hypersdk_format_vmdk.source import VmdkSource
from hypersdk_format_vmdk.tables import open_tables

_DEVICE_KINDS = frozenset({"VMFSRDM", "VMFSRAW"})


def open_source(file: ImageFile, chain: Chain, seen: Seen = ()) -> VmdkSource:
    """`seen` holds device and inode of the disks above this one in its chain. The source takes over `file`."""
    try:
        return _open(file, chain, seen)
    except BaseException:
        file.close()
        raise


def open_for_check(file: ImageFile) -> list[DiskExtent]:
    """The extents alone: parents are not opened, and an extent without a descriptor is taken as it is."""
    head = file.pread(0, min(file.size, 8), structure="head")
    if head.startswith(COWD_MAGIC):
        geometry = parse_cowd(file)
        return [SparseExtent(open_tables(file, geometry), geometry.capacity, "VMFSSPARSE")]
    if head.startswith(SESPARSE_MAGIC):
        geometry = parse_sesparse(file)
        return [SparseExtent(open_tables(file, geometry), geometry.capacity, "SESPARSE")]
    if head.startswith(HOSTED_MAGIC):
        header = hosted_header(file)
        if header.capacity and not header.descriptor_offset:
            return [hosted_extent(file, header, header.capacity * SECTOR)]
    return _layout(file)[2]


def _open(file: ImageFile, chain: Chain, seen: Seen) -> VmdkSource:
    descriptor, header, extents = _layout(file)
    facts = _facts(descriptor, header, extents)
    if not descriptor.has_parent:
        return VmdkSource(file, extents, facts)
    if chain is Chain.READ:
        return VmdkSource(file, extents, facts, parent=_open_parent(file, descriptor, seen))
    refusal = FailedPrecondition(
        f"{file.path.name} is a delta of {descriptor.parent_name or 'a parent that it does not name'!r} and cannot be "
        "read alone; read it with chain=on, its parents beside it",
        reason="IMAGE_HAS_PARENT", metadata={"parent": descriptor.parent_name},
    )  # fmt: skip
    if chain is Chain.REFUSED:
        raise refusal
    return VmdkSource(file, extents, facts, refusal=refusal)


def _layout(file: ImageFile) -> tuple[Descriptor, SparseHeader | None, list[DiskExtent]]:
    head = file.pread(0, min(file.size, SECTOR), structure="head")
    header: SparseHeader | None = None
    if head.startswith(HOSTED_MAGIC):
        header = hosted_header(file)
        descriptor = _embedded_descriptor(file, header)
    elif head.startswith((COWD_MAGIC, SESPARSE_MAGIC)):
        raise _needs_descriptor(file)
    elif looks_like_descriptor(head):
        length = file.size
        if length > MAX_DESCRIPTOR:
            raise MalformedImage(
                f"{file.path.name}: a descriptor of {length} bytes; {MAX_DESCRIPTOR} is the most that is read",
                structure="descriptor", offset=0,
            )  # fmt: skip
        descriptor = parse_descriptor(file.pread(0, length, structure="descriptor"), file.path.name)
    else:
        raise MalformedImage(
            f"{file.path.name} is not a VMDK: it begins with neither a sparse header nor a descriptor",
            structure="head", offset=0,
        )  # fmt: skip
    if header is not None and header.capacity:
        extents: list[DiskExtent] = [_embedded_extent(file, header, descriptor)]
    else:
        extents = [_named_extent(file, line, number) for number, line in enumerate(descriptor.extents)]
        if not extents:
            raise MalformedImage(f"{file.path.name}: descriptor has no extents", structure="descriptor", offset=0)
    return descriptor, header, extents


def hosted_header(file: ImageFile) -> SparseHeader:
    """The header that counts: the footer's, where the directory is at the end. Raises MalformedImage."""
    header = parse_header(file)
    if header.directory_at_end:
        header = read_footer(file, header)
    if header.overhead * SECTOR > file.size:
        raise MalformedImage(
            f"{file.path.name}: sparse header has {header.overhead * SECTOR} bytes of metadata, but the file has only "
            f"{file.size}; it is truncated",
            structure="sparse header", offset=64, reason="IMAGE_TRUNCATED",
        )  # fmt: skip
    return header


def hosted_extent(file: ImageFile, header: SparseHeader, size: int) -> SparseExtent:
    return SparseExtent(open_tables(file, header.geometry(file.path.name)), size, "SPARSE")


def _embedded_descriptor(file: ImageFile, header: SparseHeader) -> Descriptor:
    if not header.descriptor_offset or not header.descriptor_size:
        raise _needs_descriptor(file)
    at, length = header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR
    if length > MAX_DESCRIPTOR:
        raise MalformedImage(
            f"{file.path.name}: sparse header has a descriptor of {length} bytes; {MAX_DESCRIPTOR} is the most that "
            "is read", structure="sparse header", offset=36,
        )  # fmt: skip
    raw = file.pread(at, length, structure="descriptor")
    descriptor = parse_descriptor(raw, file.path.name, at)
    if "createtype" not in descriptor.fields:
        raise _needs_descriptor(file)
    return descriptor


def _embedded_extent(file: ImageFile, header: SparseHeader, descriptor: Descriptor) -> SparseExtent:
    """The file itself. Its extent line names it, often by an older name: it is not followed, only judged."""
    capacity = header.capacity * SECTOR
    lines = descriptor.extents
    if len(lines) > 1:
        raise Unsupported(
            f"{file.path.name}: its embedded descriptor has {len(lines)} extents; one is known",
            reason="IMAGE_LAYOUT_UNSUPPORTED",
        )
    if not lines:
        return hosted_extent(file, header, capacity)
    if any(c in lines[0].name for c in "/\\\0") or lines[0].name == "..":
        raise PermissionDenied(
            f"{file.path.name}: its descriptor names the extent {lines[0].name[:80]!r}, which is a path; extents are "
            "plain names in the image's own directory",
            reason="REFERENCE_REFUSED", metadata={"structure": "extent 0"},
        )  # fmt: skip
    return hosted_extent(file, header, _agreed_size(file, lines[0], capacity, header.grain * SECTOR))


def _agreed_size(file: ImageFile, line: ExtentLine, capacity: int, grain: int) -> int:
    """The line's size, which a capacity may exceed by less than a grain, because products round it up."""
    size = line.sectors * SECTOR
    if not 0 <= capacity - size < max(grain, SECTOR):
        raise MalformedImage(
            f"{file.path.name}: the descriptor says that the extent has {size} bytes, its header says {capacity}",
            structure="descriptor",
        )
    return size


def _named_extent(file: ImageFile, line: ExtentLine, number: int) -> DiskExtent:
    size = line.sectors * SECTOR
    if line.access == "NOACCESS" or line.kind in _DEVICE_KINDS:
        raise Unsupported(
            f"{file.path.name}: extent {number} ({line.access} {line.kind}) is a device or must not be read",
            reason="IMAGE_LAYOUT_UNSUPPORTED",
        )
    if line.kind == "ZERO":
        return ZeroExtent(size)
    if line.kind not in {"FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE"}:
        raise Unsupported(
            f"{file.path.name}: extent {number} is of the unknown kind {line.kind[:40]!r}",
            reason="IMAGE_LAYOUT_UNSUPPORTED",
        )
    sibling = file.open_sibling(line.name, structure=f"extent {number}")
    if line.kind in {"FLAT", "VMFS"}:
        return FlatExtent(sibling, line.start * SECTOR, size)
    if line.kind == "SESPARSE":
        geometry = parse_sesparse(sibling)
        return SparseExtent(open_tables(sibling, geometry), _agreed_size(file, line, geometry.capacity, geometry.grain),
                            line.kind)  # fmt: skip
    if sibling.pread(0, 4, structure="sparse header") == COWD_MAGIC:
        geometry = parse_cowd(sibling)
        return SparseExtent(open_tables(sibling, geometry), _agreed_size(file, line, geometry.capacity, geometry.grain),
                            "VMFSSPARSE")  # fmt: skip
    header = hosted_header(sibling)
    return hosted_extent(sibling, header, _agreed_size(file, line, header.capacity * SECTOR, header.grain * SECTOR))


def _open_parent(file: ImageFile, descriptor: Descriptor, seen: Seen) -> VmdkSource:
    name = descriptor.parent_name
    if not name:
        raise MalformedImage(
            f"{file.path.name}: descriptor has a parent's CID but no parentFileNameHint",
            structure="descriptor", offset=0,
        )  # fmt: skip
    sibling, seen = open_parent(file, name, seen, structure="parentFileNameHint", reason="IMAGE_CHAIN_IMPOSSIBLE")
    parent = open_source(sibling, Chain.READ, seen)
    found = parent.info()["details"]["cid"]
    if descriptor.parent_cid != CID_NONE and found != f"{descriptor.parent_cid:08x}":
        parent.close()
        raise FailedPrecondition(
            f"{name} has been changed since {file.path.name} was made from it (CID {found}, expected "
            f"{descriptor.parent_cid:08x}); reading them together would give wrong bytes",
            reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip
    return parent


def _needs_descriptor(file: ImageFile) -> FailedPrecondition:
    return FailedPrecondition(
        f"{file.path.name} is one extent of a disk and has no descriptor in it; open the descriptor that names it",
        reason="EXTENT_WITHOUT_DESCRIPTOR",
    )


def _facts(descriptor: Descriptor, header: SparseHeader | None, extents: list[DiskExtent]) -> dict[str, Any]:
    compressed = any(isinstance(e, SparseExtent) and e.tables.geometry.compressed for e in extents)
    facts: dict[str, Any] = {
        "subformat": descriptor.create_type,
        "compressed": compressed,
        "details": {
            "create_type": descriptor.create_type,
            "cid": f"{descriptor.cid:08x}",
            "parent_cid": f"{descriptor.parent_cid:08x}",
            "database": dict(descriptor.database),
        },
    }
    if descriptor.has_parent:
        facts["backing_file"] = descriptor.parent_name
    if header is not None:
        facts["dirty"] = header.dirty
        facts["details"]["header_version"] = header.version
        facts["details"]["zeroed_grains"] = bool(header.flags & FLAG_ZERO_GRAIN)
    if "changetrackpath" in descriptor.fields:
        facts["details"]["change_tracking_file"] = descriptor.fields["changetrackpath"]
    return facts

"""The metadata region (2.6): block size, disk size, sector sizes, identity, and the raw parent locator."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import (
    FILE_PARAMETERS,
    LOGICAL_SECTOR_SIZE,
    MAX_BLOCK,
    MAX_DISK,
    MAX_TABLE_ENTRIES,
    METADATA_TABLE_BYTES,
    MIB,
    MIN_BLOCK,
    PAGE_83_DATA,
    PARENT_LOCATOR,
    PHYSICAL_SECTOR_SIZE,
    SECTOR_SIZES,
    VIRTUAL_DISK_SIZE,
)
from hypersdk_format_vhdx.regions import Region
from hypersdk_format_vhdx.replay import ReplayedFile

_SIGNATURE = b"metadata"
_HEAD = struct.Struct("<8sHH20x")
_ENTRY = struct.Struct("<16sIIII")
_IS_USER, _IS_DISK, _IS_REQUIRED = 1, 2, 4
_NAMES: Mapping[UUID, tuple[str, int | None]] = {
    FILE_PARAMETERS: ("file parameters", 8),
    VIRTUAL_DISK_SIZE: ("virtual disk size", 8),
    PAGE_83_DATA: ("page 83 data", 16),
    LOGICAL_SECTOR_SIZE: ("logical sector size", 4),
    PHYSICAL_SECTOR_SIZE: ("physical sector size", 4),
    PARENT_LOCATOR: ("parent locator", None),
}
"""Name and length of what is known; None: it varies."""

LEAVE_ALLOCATED, HAS_PARENT = 1, 2


@dataclass(frozen=True, slots=True)
class Metadata:
    """geometry          block, disk and logical sector size
    fixed             blocks are to stay allocated
    physical_sector   bytes
    disk_id           what SCSI page 83 tells the guest
    parent_locator    the item's bytes and their offset in the file, or None
    unknown           items that are not needed to read the disk
    """

    geometry: Geometry
    fixed: bool
    physical_sector: int
    disk_id: UUID
    parent_locator: tuple[bytes, int] | None
    unknown: tuple[UUID, ...]


def pack_metadata(geometry: Geometry, *, fixed: bool, physical_sector: int, disk_id: UUID) -> bytes:
    """The table and its items; the rest of the region is zeros."""
    items = (
        (FILE_PARAMETERS, _IS_REQUIRED, struct.pack("<II", geometry.block, LEAVE_ALLOCATED if fixed else 0)),
        (VIRTUAL_DISK_SIZE, _IS_REQUIRED | _IS_DISK, struct.pack("<Q", geometry.size)),
        (PAGE_83_DATA, _IS_REQUIRED | _IS_DISK, disk_id.bytes_le),
        (LOGICAL_SECTOR_SIZE, _IS_REQUIRED | _IS_DISK, struct.pack("<I", geometry.sector)),
        (PHYSICAL_SECTOR_SIZE, _IS_REQUIRED | _IS_DISK, struct.pack("<I", physical_sector)),
    )
    table = bytearray(METADATA_TABLE_BYTES)
    _HEAD.pack_into(table, 0, _SIGNATURE, 0, len(items))
    body = b""
    for number, (guid, flags, data) in enumerate(items):
        offset = METADATA_TABLE_BYTES + len(body)
        _ENTRY.pack_into(table, _HEAD.size + number * _ENTRY.size, guid.bytes_le, offset, len(data), flags, 0)
        body += data
    return bytes(table) + body


def read_metadata(file: ReplayedFile, region: Region) -> Metadata:
    """Raises MalformedImage, Unsupported (FEATURE_UNSUPPORTED) for a required item that is unknown."""
    items, unknown = _read_items(file, region)
    for guid, (name, _) in _NAMES.items():
        if guid != PARENT_LOCATOR and guid not in items:
            raise _fault(file, region.offset, "metadata table", f"has no {name}, which every image has")
    block, flags = struct.unpack("<II", items[FILE_PARAMETERS][0])
    size = int.from_bytes(items[VIRTUAL_DISK_SIZE][0], "little")
    sector = int.from_bytes(items[LOGICAL_SECTOR_SIZE][0], "little")
    physical = int.from_bytes(items[PHYSICAL_SECTOR_SIZE][0], "little")
    for guid, value in ((LOGICAL_SECTOR_SIZE, sector), (PHYSICAL_SECTOR_SIZE, physical)):
        if value not in SECTOR_SIZES:
            raise _fault(file, items[guid][1], _NAMES[guid][0], f"is {value}; it can only be 512 or 4096")
    if block & (block - 1) or not MIN_BLOCK <= block <= MAX_BLOCK:
        raise _fault(
            file, items[FILE_PARAMETERS][1], "file parameters",
            f"tell a block size of {block} bytes; it is a power of two from 1 to 256 MiB",
        )  # fmt: skip
    if not 0 < size <= MAX_DISK or size % sector:
        raise _fault(
            file, items[VIRTUAL_DISK_SIZE][1], "virtual disk size",
            f"is {size}; it is a multiple of the sector size of {sector} and at most 64 TiB",
        )  # fmt: skip
    geometry = Geometry(size, block, sector, bool(flags & HAS_PARENT))
    locator = items.get(PARENT_LOCATOR)
    if geometry.has_parent and locator is None:
        raise _fault(file, region.offset, "metadata table", "has no parent locator, though the disk has a parent")
    disk_id = UUID(bytes_le=items[PAGE_83_DATA][0])
    return Metadata(geometry, bool(flags & LEAVE_ALLOCATED), physical, disk_id, locator, tuple(unknown))


def _read_items(file: ReplayedFile, region: Region) -> tuple[dict[UUID, tuple[bytes, int]], list[UUID]]:
    """The known items with their offsets in the file, and the GUIDs of the others."""
    table = file.pread(region.offset, METADATA_TABLE_BYTES, structure="metadata table")
    signature, _, count = _HEAD.unpack_from(table)
    if signature != _SIGNATURE or count > MAX_TABLE_ENTRIES:
        raise _fault(file, region.offset, "metadata table", f"has no signature or {count} entries")
    items: dict[UUID, tuple[bytes, int]] = {}
    unknown = []
    for raw_guid, offset, length, flags, _ in _ENTRY.iter_unpack(table[_HEAD.size : _HEAD.size + count * _ENTRY.size]):
        guid = UUID(bytes_le=raw_guid)
        if guid not in _NAMES or flags & _IS_USER:
            if flags & _IS_REQUIRED:
                raise Unsupported(
                    f"{file.name} cannot be read without its metadata item {guid}, which this reader does not know",
                    reason="FEATURE_UNSUPPORTED", metadata={"item": str(guid)},
                )  # fmt: skip
            unknown.append(guid)
            continue
        name, wanted = _NAMES[guid]
        inside = offset >= METADATA_TABLE_BYTES and offset + length <= region.length and 0 < length <= MIB
        if not inside or (wanted is not None and length != wanted):
            raise _fault(file, region.offset + offset, name, f"has {length} bytes at offset {offset} of the region")
        if guid in items:
            raise _fault(file, region.offset + offset, name, "is in the metadata table twice")
        items[guid] = (file.pread(region.offset + offset, length, structure=name), region.offset + offset)
    return items, unknown


def _fault(file: ReplayedFile, offset: int, structure: str, what: str) -> MalformedImage:
    return MalformedImage(f"{file.name}: the {structure} {what}", structure=structure, offset=offset)

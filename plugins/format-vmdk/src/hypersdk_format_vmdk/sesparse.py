"""The headers of a seSparse extent, the space-efficient redo log of ESXi 5.1 and later.

The format has no public specification; layout as observed by QEMU's developers and others: a constant header, a
volatile header, then directory, tables and grains in areas of their own, all positions in sectors, entries of 64 bits
whose top nibble says what they are.
"""

from __future__ import annotations

import struct

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vmdk.geometry import IMPOSSIBLE, UNALLOCATED, ZEROED, Entries, GrainGeometry, Raw
from hypersdk_format_vmdk.layout import SECTOR, SESPARSE_MAGIC

_CONSTANT = struct.Struct("<8s25Q")
_VOLATILE = struct.Struct("<4Q")
_VOLATILE_MAGIC = 0xCAFECAFE
_VERSION = 0x0000000200000001
_MAX_SECTORS = 1 << 48
STRUCTURE = "seSparse header"


def parse_sesparse(file: ImageFile) -> GrainGeometry:
    """Raises MalformedImage, Unsupported (version, flags, a journal that must be replayed)."""
    name = file.path.name
    raw = file.pread(0, SECTOR, structure=STRUCTURE)
    magic, version, capacity, grain, table, flags, *rest = _CONSTANT.unpack_from(raw)
    volatile, directory, directory_size, tables, grains = rest[4], rest[10], rest[11], rest[12], rest[18]
    if magic != SESPARSE_MAGIC:
        raise MalformedImage(f"{name}: {STRUCTURE} has no magic number", structure=STRUCTURE, offset=0)
    if version != _VERSION or flags or any(rest[:4]):
        raise Unsupported(
            f"{name}: seSparse extents of version {version:#x} with flags {flags:#x} are not known",
            reason="IMAGE_VERSION_UNSUPPORTED",
        )
    for value in (capacity, grain, table, volatile, directory, directory_size, tables, grains):
        if value > _MAX_SECTORS:
            raise MalformedImage(
                f"{name}: {STRUCTURE} has the impossible number {value}", structure=STRUCTURE, offset=0
            )
    _check_volatile(file, volatile * SECTOR)
    entries = table * SECTOR // 8
    geometry = GrainGeometry(
        capacity=capacity * SECTOR,
        grain=grain * SECTOR,
        entries=entries,
        entry_bytes=8,
        directory_offset=directory * SECTOR,
        lowest=max(1, grains) * SECTOR,
        decode_directory=lambda raw: _decode_directory(raw, tables * SECTOR, table * SECTOR),
        decode_table=lambda raw: _decode_table(raw, grains * SECTOR, grain * SECTOR),
    )
    geometry.validate(name, STRUCTURE)
    if geometry.directory_bytes > directory_size * SECTOR:
        raise MalformedImage(
            f"{name}: {STRUCTURE} has a grain directory of {directory_size} sectors, too small for its capacity",
            structure=STRUCTURE, offset=136,
        )  # fmt: skip
    return geometry


def _check_volatile(file: ImageFile, offset: int) -> None:
    structure = "seSparse volatile header"
    magic, _free, _sequence, replay = _VOLATILE.unpack(file.pread(offset, _VOLATILE.size, structure=structure))
    if magic != _VOLATILE_MAGIC:
        raise MalformedImage(f"{file.path.name}: {structure} has no magic number", structure=structure, offset=offset)
    if replay:
        raise Unsupported(
            f"{file.path.name}: was not closed cleanly and its journal must be replayed; start and stop the machine on "
            "ESXi, or clone the disk with vmkfstools, then read it again",
            reason="IMAGE_DIRTY",
        )


def _decode_directory(raw: Raw, tables: int, table_bytes: int) -> Entries:
    """Top half 0x10000000: a table, its number in the low half. Anything else but 0 is impossible."""
    entries = (raw & 0xFFFFFFFF).astype("int64")
    entries *= table_bytes
    entries += tables
    entries[raw >> 32 != 0x10000000] = IMPOSSIBLE
    entries[raw == 0] = UNALLOCATED
    return entries


def _decode_table(raw: Raw, grains: int, grain: int) -> Entries:
    """Top nibble 0: unallocated, 1: unmapped, 2: zeros, 3: a grain. Bits 48–59 of the entry are the low 12 bits of
    the grain's number, bits 0–47 the high ones."""
    number = (((raw >> 48) & 0xFFF) | ((raw & 0xFFFFFFFFFFFF) << 12)).astype("uint64")
    kind = raw >> 60
    possible = (kind == 3) & (number < (1 << 62) // grain)
    number[~possible] = 0
    entries = number.astype("int64")
    entries *= grain
    entries += grains
    entries[~possible] = IMPOSSIBLE
    entries[(kind == 1) | (kind == 2)] = ZEROED
    entries[raw == 0] = UNALLOCATED
    return entries

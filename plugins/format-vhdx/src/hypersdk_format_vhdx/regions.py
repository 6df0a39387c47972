"""The region table (2.2.3): where the block allocation table and the metadata lie. Two copies; the first with a right
checksum counts."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vhdx.crc32c import checksum_of
from hypersdk_format_vhdx.layout import (
    BAT_REGION,
    HEADER_SECTION_BYTES,
    MAX_TABLE_ENTRIES,
    METADATA_REGION,
    METADATA_TABLE_BYTES,
    MIB,
    REGION_TABLE_BYTES,
    REGION_TABLE_OFFSETS,
)
from hypersdk_format_vhdx.replay import ReplayedFile

_SIGNATURE = b"regi"
_HEAD = struct.Struct("<4sIII")
_ENTRY = struct.Struct("<16sQII")
_NAMES = {BAT_REGION: "BAT region", METADATA_REGION: "metadata region"}


@dataclass(frozen=True, slots=True)
class Region:
    """[offset, offset+length) of the file, bytes. `guid` says what it holds."""

    guid: UUID
    offset: int
    length: int
    required: bool

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def name(self) -> str:
        return _NAMES.get(self.guid, f"region {self.guid}")


@dataclass(frozen=True, slots=True)
class Regions:
    """bat and metadata, all regions in order of offset, and which copies of the table have a right checksum and the
    same content as the one in force."""

    bat: Region
    metadata: Region
    all: tuple[Region, ...]
    valid: tuple[bool, bool]


def pack_regions(regions: Sequence[Region]) -> bytes:
    raw = bytearray(REGION_TABLE_BYTES)
    _HEAD.pack_into(raw, 0, _SIGNATURE, 0, len(regions), 0)
    for number, region in enumerate(regions):
        at = _HEAD.size + number * _ENTRY.size
        _ENTRY.pack_into(raw, at, region.guid.bytes_le, region.offset, region.length, int(region.required))
    struct.pack_into("<I", raw, 4, checksum_of(raw))
    return bytes(raw)


def read_regions(file: ReplayedFile, log: tuple[int, int]) -> Regions:
    """`log`: offset and length of the log, which no region may touch. Raises MalformedImage, Unsupported
    (FEATURE_UNSUPPORTED) for a required region that is unknown."""
    copies = [file.pread(at, REGION_TABLE_BYTES, structure="region table") for at in REGION_TABLE_OFFSETS]
    good = [raw[:4] == _SIGNATURE and struct.unpack_from("<I", raw, 4)[0] == checksum_of(raw) for raw in copies]
    if not any(good):
        raise MalformedImage(
            f"{file.name}: neither copy of the region table has a right signature and checksum; the file is damaged",
            structure="region table", offset=REGION_TABLE_OFFSETS[0],
        )  # fmt: skip
    number = good.index(True)
    regions = _parse(file, copies[number], REGION_TABLE_OFFSETS[number])
    _refuse_overlaps(file, regions, log)
    valid = (good[0], good[1] and copies[1] == copies[number])
    bat = _find(file, regions, BAT_REGION)
    metadata = _find(file, regions, METADATA_REGION)
    if metadata.length < METADATA_TABLE_BYTES:
        raise _fault(file, metadata, f"has {metadata.length} bytes, too few for its table")
    return Regions(bat, metadata, tuple(sorted(regions, key=lambda region: region.offset)), valid)


def _parse(file: ReplayedFile, raw: bytes, where: int) -> list[Region]:
    count = _HEAD.unpack_from(raw)[2]
    if count > MAX_TABLE_ENTRIES:
        raise MalformedImage(
            f"{file.name}: the region table claims {count} entries; {MAX_TABLE_ENTRIES} are the most",
            structure="region table", offset=where,
        )  # fmt: skip
    regions = []
    for guid, offset, length, flags in _ENTRY.iter_unpack(raw[_HEAD.size : _HEAD.size + count * _ENTRY.size]):
        region = Region(UUID(bytes_le=guid), offset, length, bool(flags & 1))
        if region.guid not in _NAMES and region.required:
            raise Unsupported(
                f"{file.name} cannot be read without its region {region.guid}, which this reader does not know",
                reason="FEATURE_UNSUPPORTED", metadata={"region": str(region.guid)},
            )  # fmt: skip
        if offset % MIB or length % MIB or not length or offset < HEADER_SECTION_BYTES:
            raise _fault(file, region, f"has {length} bytes at offset {offset}; both are whole MiB behind the header")
        if region.end > file.size and region.guid in _NAMES:
            raise MalformedImage(
                f"{file.name}: the {region.name} ends at byte {region.end}, but the file has only {file.size}; it is "
                "truncated",
                structure=region.name, offset=offset, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        regions.append(region)
    return regions


def _refuse_overlaps(file: ReplayedFile, regions: Sequence[Region], log: tuple[int, int]) -> None:
    areas = sorted([(r.offset, r.end, r.name) for r in regions] + [(log[0], log[0] + log[1], "log")])
    for (_, end, name), (start, _, following) in pairwise(areas):
        if start < end:
            raise MalformedImage(
                f"{file.name}: the {following} at offset {start} overlaps the {name}, which ends at {end}",
                structure=following, offset=start,
            )  # fmt: skip


def _find(file: ReplayedFile, regions: Sequence[Region], guid: UUID) -> Region:
    found = [region for region in regions if region.guid == guid]
    if len(found) != 1:
        raise MalformedImage(
            f"{file.name}: the region table names {len(found)} of the {_NAMES[guid]}; there is one in every image",
            structure="region table", offset=REGION_TABLE_OFFSETS[0],
        )  # fmt: skip
    return found[0]


def _fault(file: ReplayedFile, region: Region, what: str) -> MalformedImage:
    return MalformedImage(
        f"{file.name}: the {region.name} {what}", structure=region.name, offset=region.offset
    )

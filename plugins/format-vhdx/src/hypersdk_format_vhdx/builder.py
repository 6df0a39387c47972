"""The structures of a new file, and their places: header section, log, metadata, block allocation table, payload.

All but the headers are written at once. The file type identifier and the headers come last, when everything else is on
stable storage, so a file that was not finished is no image.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile

from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.header import Header
from hypersdk_format_vhdx.layout import (
    BAT_REGION,
    CREATOR_BYTES,
    FILE_MAGIC,
    HEADER_OFFSETS,
    HEADER_SECTION_BYTES,
    METADATA_REGION,
    MIB,
    NIL,
    REGION_TABLE_OFFSETS,
)
from hypersdk_format_vhdx.metadata import pack_metadata
from hypersdk_format_vhdx.options import CreateOptions
from hypersdk_format_vhdx.regions import Region, pack_regions

SECTOR = 512
"""Logical and physical sectors of what we write, as qemu-img's; every guest can use them."""

_CREATOR = "HyperSDK"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything goes. Offsets and lengths in bytes, all whole MiB."""

    geometry: Geometry
    options: CreateOptions

    @property
    def metadata_offset(self) -> int:
        return HEADER_SECTION_BYTES + self.options.log_size

    @property
    def bat_offset(self) -> int:
        return self.metadata_offset + MIB

    @property
    def bat_length(self) -> int:
        return -(-self.geometry.entries * 8 // MIB) * MIB

    @property
    def payload_offset(self) -> int:
        return self.bat_offset + self.bat_length

    def write(self, file: ImageFile) -> None:
        """Region tables and metadata, and the file as long as they need."""
        regions = pack_regions(
            (
                Region(BAT_REGION, self.bat_offset, self.bat_length, required=True),
                Region(METADATA_REGION, self.metadata_offset, MIB, required=True),
            )
        )
        for offset in REGION_TABLE_OFFSETS:
            file.pwrite(offset, regions)
        metadata = pack_metadata(
            self.geometry, fixed=self.options.fixed, physical_sector=SECTOR, disk_id=uuid.uuid4()
        )
        file.pwrite(self.metadata_offset, metadata)
        file.truncate(self.payload_offset)

    def write_headers(self, file: ImageFile) -> None:
        """Both headers, one the predecessor of the other, with an empty log; then what makes the file an image."""
        identity, content = uuid.uuid4(), uuid.uuid4()
        for sequence, offset in enumerate(HEADER_OFFSETS, 1):
            header = Header(sequence, identity, content, NIL, 0, 1, self.options.log_size, HEADER_SECTION_BYTES)
            file.pwrite(offset, header.pack())
        file.pwrite(0, FILE_MAGIC + _CREATOR.encode("utf-16-le").ljust(CREATOR_BYTES, b"\0"))

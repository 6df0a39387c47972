"""Constants of [MS-VHDX] and our own limits. Sizes and offsets in bytes. Imports nothing heavy: `probe` needs it."""

from __future__ import annotations

from uuid import UUID

KIB = 1 << 10
MIB = 1 << 20

FILE_MAGIC = b"vhdxfile"
CREATOR_BYTES = 512

# Header section (2.2): five parts of 64 KiB each, the rest of the first MiB is reserved.
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
HEADER_BYTES = 4 * KIB
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_BYTES = 64 * KIB
HEADER_SECTION_BYTES = MIB

BAT_REGION = UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")

METADATA_TABLE_BYTES = 64 * KIB
MAX_TABLE_ENTRIES = 2047
"""Of a region table and of a metadata table, which both have room for no more."""

FILE_PARAMETERS = UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
PAGE_83_DATA = UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
VHDX_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
NIL = UUID(int=0)

# States of a payload block (2.5.1.1); of a sector bitmap block only 0 and 6 exist (2.5.1.2).
NOT_PRESENT = 0
UNDEFINED = 1
ZERO = 2
UNMAPPED = 3
FULLY_PRESENT = 6
PARTIALLY_PRESENT = 7

STATE_MASK = 7
RESERVED_MASK = 0xFFFF8
OFFSET_MASK = ~(MIB - 1) & ((1 << 64) - 1)

MIN_BLOCK = MIB
MAX_BLOCK = 256 * MIB
MAX_DISK = 64 << 40
SECTOR_SIZES = (512, 4096)
BITMAP_BLOCK_BYTES = MIB
CHUNK_SECTORS = 1 << 23
"""Sectors that one sector bitmap block tells of."""

LOG_SECTOR = 4 * KIB

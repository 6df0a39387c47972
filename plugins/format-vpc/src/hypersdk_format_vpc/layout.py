"""Numbers of the format and the limits that we hold hostile images to. No code.

Everything on disk is big-endian; the block allocation table counts in sectors of 512 bytes.
"""

SECTOR = 512

FOOTER_COOKIE = b"conectix"
HEADER_COOKIE = b"cxsparse"
FOOTER_BYTES = 512
HEADER_BYTES = 1024
VERSION = 0x00010000

TYPE_FIXED = 2
TYPE_DYNAMIC = 3
TYPE_DIFFERENCING = 4

UNALLOCATED = 0xFFFFFFFF
"""An entry of the block allocation table for a block that is not stored."""

NOWHERE = 0xFFFFFFFFFFFFFFFF
"""The data offset of a fixed disk's footer, and of every dynamic header."""

EPOCH = 946684800
"""Timestamps count seconds from 2000-01-01T00:00:00Z; this is that moment in Unix time."""

MAX_SIZE = 2040 << 30
"""Virtual size, bytes: the most that Virtual PC and Hyper-V take, and QEMU too."""

MIN_BLOCK = 512 << 10
"""Smallest block size that VHD 1.0 tells of; bytes. Smaller ones are read as long as the table fits MAX_ENTRIES."""

DEFAULT_BLOCK = 2 << 20
MAX_BLOCK = 256 << 20
"""Largest block that Hyper-V makes (of VHDX); bytes."""

MAX_ENTRIES = MAX_SIZE // MIN_BLOCK
"""Entries of a block allocation table: 16 MiB of them. One that is shuffled is sorted in 0.4 s."""

"""Parents below one another."""

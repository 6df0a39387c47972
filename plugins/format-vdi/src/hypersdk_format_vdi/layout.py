"""Numbers of the format and the limits that we hold hostile images to. No code.

Everything on disk is little-endian; the block map counts in blocks from the start of the data.
"""

SECTOR = 512

SIGNATURE = (0xBEDA107F).to_bytes(4, "little")
SIGNATURE_AT = 64
MAJOR_VERSION = 1

TYPE_DYNAMIC = 1
TYPE_STATIC = 2
TYPE_UNDO = 3
TYPE_DIFFERENCING = 4

FREE = 0xFFFFFFFF
"""A block that is not stored: the parent's bytes, zeros without a parent."""

ZERO = 0xFFFFFFFE
"""A block that was discarded or is all zeros, whatever the parent holds."""

DEFAULT_BLOCK = 1 << 20
MAX_BLOCK = 256 << 20
"""Bytes. VirtualBox makes blocks of 1 MiB."""

MAX_ENTRIES = 64 << 20
"""Entries of a block map: 64 TiB of blocks of 1 MiB. To judge so many takes 64 MiB and 0.6 s of CPU."""

DATA_ALIGNMENT = 1 << 20
"""Where VirtualBox since 4.0 lets the data begin: at a multiple of this, bytes."""

"""Parents below one another."""

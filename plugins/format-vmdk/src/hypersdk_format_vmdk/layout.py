"""Numbers of the format and the limits that we hold hostile images to. No code.

Everything on disk is little-endian; positions are counted in sectors of 512 bytes from the start of the extent's file.
"""

SECTOR = 512

HOSTED_MAGIC = b"KDMV"
COWD_MAGIC = b"COWD"
SESPARSE_MAGIC = (0xCAFEBABE).to_bytes(8, "little")

CID_NONE = 0xFFFFFFFF
"""The parentCID of a disk without a parent (VDF 5.0, "The Descriptor File")."""

MAX_CAPACITY = 1 << 56
"""Virtual size, bytes, 64 PiB: a thousand times what VMware allows, and far from overflowing anything here."""

MAX_DESCRIPTOR = 1 << 20
"""Bytes of descriptor text that we parse. VMware writes under 2 KiB, plus about 40 bytes for each extent."""

MAX_EXTENTS = 8192
"""Extents of one descriptor: 16 TiB of 2 GiB extents."""

"""Parents below one another. VMware allows 32 snapshots."""

MAX_GRAIN = 1 << 30
"""Bytes of a grain. VMware writes 64 KiB (hosted), 512 B (COWD) and 4 KiB (seSparse)."""

MAX_COMPRESSED_GRAIN = 4 << 20
"""Bytes of a grain that must be held in memory to be decompressed."""

MAX_DIRECTORY = 32 << 20
"""Bytes of a grain directory: 64 TiB of seSparse disk, which is VMware's maximum, and 256 TiB of hosted. A shuffled one
takes 0.3 s of CPU and 175 MiB to be told from a sound one."""

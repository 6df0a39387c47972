"""The sizes that follow from a header, and the bits of table entries.

Pure numbers: nothing here reads a file or judges an image.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_L1_BYTES = 32 << 20
"""QEMU's limit on the L1 table (QCOW_MAX_L1_SIZE); with 2 MiB clusters it still maps 2 EiB."""
MAX_REFTABLE_BYTES = 8 << 20
"""QEMU's limit on the refcount table (QCOW_MAX_REFTABLE_SIZE)."""
SUBCLUSTERS = 32

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
"""Bits 9-55 of an L1 or standard L2 entry: the host offset, bytes."""
FLAG_COPIED = 1 << 63
FLAG_COMPRESSED = 1 << 62
FLAG_ZERO = 1
L1_RESERVED = 0x7F00_0000_0000_01FF
L2_RESERVED = 0x3F00_0000_0000_01FE
L2_RESERVED_EXTENDED = L2_RESERVED | FLAG_ZERO
REFTABLE_RESERVED = 0x1FF


def ceil_div(value: int, unit: int) -> int:
    return -(-value // unit)


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of one image. `size` and `file_size` in bytes; a *unit* is what has a state of its own: a
    subcluster with extended L2 entries, else a cluster."""

    version: int
    cluster_bits: int
    size: int
    file_size: int
    extended_l2: bool = False

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def entry_words(self) -> int:
        """64-bit words of an L2 entry."""
        return 2 if self.extended_l2 else 1

    @property
    def l2_entries(self) -> int:
        """Clusters that one L2 table maps."""
        return self.cluster_size // (8 * self.entry_words)

    @property
    def units_per_cluster(self) -> int:
        return SUBCLUSTERS if self.extended_l2 else 1

    @property
    def unit_size(self) -> int:
        return self.cluster_size // self.units_per_cluster

    @property
    def clusters(self) -> int:
        """Guest clusters, the last one maybe short."""
        return ceil_div(self.size, self.cluster_size)

    @property
    def l1_entries(self) -> int:
        """L1 entries needed to map `size`."""
        return ceil_div(self.clusters, self.l2_entries)

    @property
    def sector_shift(self) -> int:
        """Where a compressed entry's sector count starts; the bits below hold the host offset, bytes."""
        return 62 - (self.cluster_bits - 8)

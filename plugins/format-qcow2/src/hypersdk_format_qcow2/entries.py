"""Decoding L2 entries with numpy: from raw words to a state and a host address per unit, judged on the way.

A unit is a cluster, or a subcluster where the image has extended L2 entries. No file is read here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypersdk.errors import MalformedImage

from hypersdk_format_qcow2.geometry import (
    FLAG_COMPRESSED,
    FLAG_ZERO,
    L2_RESERVED,
    L2_RESERVED_EXTENDED,
    OFFSET_MASK,
    SUBCLUSTERS,
    Geometry,
)

U64 = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]

HOLE, ZERO, PLAIN, COMPRESSED = 0, 1, 2, 3
"""State of a unit: not here (ask the backing file), zeros, stored as it is, part of a compressed cluster."""


class Units(NamedTuple):
    """`kinds[i]` and `hosts[i]` of consecutive units. `hosts` is the file offset in bytes for PLAIN, the L2
    entry without its flags for COMPRESSED, else 0."""

    kinds: Kinds
    hosts: U64


class CompressedRange(NamedTuple):
    """Where a compressed cluster lies: whole 512-byte sectors from the one that holds `offset`, ending at
    `end`."""

    offset: int
    end: int


def compressed_range(geometry: Geometry, entry: int) -> CompressedRange:
    """Of an L2 entry without its flag bits (section "Compressed Clusters Descriptor")."""
    offset = entry & ((1 << geometry.sector_shift) - 1)
    sectors = (entry >> geometry.sector_shift) + 1
    return CompressedRange(offset, (offset & ~511) + sectors * 512)


class EntryDecoder:
    """Decodes the entries of one image. `forbidden` are the clusters, sorted by offset, that hold metadata:
    an entry that calls one of them guest data is corrupt."""

    def __init__(self, name: str, geometry: Geometry, forbidden: U64) -> None:
        self._name = name
        self._geometry = geometry
        self._forbidden = forbidden

    def decode(self, words: U64, first_cluster: int) -> Units:
        """Units of the clusters from `first_cluster`, of which `words` are the entries. Raises
        MalformedImage."""
        step, per_cluster = self._geometry.entry_words, self._geometry.units_per_cluster
        count = len(words) // step * per_cluster
        used = np.flatnonzero(words)
        if not len(used):
            return Units(np.zeros(count, np.uint8), np.zeros(count, np.uint64))
        low, high = int(used[0]) // step, int(used[-1]) // step + 1
        units = self._decode_used(words[low * step : high * step], first_cluster + low)
        if len(units.kinds) == count:
            return units
        whole = Units(np.zeros(count, np.uint8), np.zeros(count, np.uint64))  # a table with little in it costs little
        whole.kinds[low * per_cluster : high * per_cluster] = units.kinds
        whole.hosts[low * per_cluster : high * per_cluster] = units.hosts
        return whole

    def _decode_used(self, words: U64, first_cluster: int) -> Units:
        geometry = self._geometry
        entries = words[::2] if geometry.extended_l2 else words
        compressed = (entries & np.uint64(FLAG_COMPRESSED)) != 0
        hosts = entries & np.uint64(OFFSET_MASK)
        self._judge_standard(entries, hosts, compressed, first_cluster)
        if compressed.any():
            hosts[compressed] = entries[compressed] & np.uint64(FLAG_COMPRESSED - 1)
            self._judge_compressed(hosts, compressed, first_cluster)
        if geometry.extended_l2:
            units = self._subclusters(hosts, compressed, words[1::2], first_cluster)
        else:
            kinds = np.where(hosts != 0, np.uint8(PLAIN), np.uint8(HOLE))
            kinds[(entries & np.uint64(FLAG_ZERO)) != 0] = ZERO
            kinds[compressed] = COMPRESSED
            hosts[(kinds != PLAIN) & ~compressed] = 0
            units = Units(kinds, hosts)
        self._judge_plain(units, first_cluster)
        return units

    def _subclusters(self, hosts: U64, compressed: npt.NDArray[np.bool_], bitmaps: U64, first: int) -> Units:
        """Expand each entry to 32 (section "Extended L2 Entries")."""
        self._refuse(compressed & (bitmaps != 0), first, "is compressed and has subclusters")
        low = np.ascontiguousarray(bitmaps).astype("<u8").view(np.uint8)
        bits = np.unpackbits(low.reshape(-1, 8), axis=1, bitorder="little")
        allocated, zeros = bits[:, :SUBCLUSTERS] != 0, bits[:, SUBCLUSTERS:] != 0
        self._refuse((allocated & zeros).any(axis=1), first, "has subclusters both allocated and zero")
        self._refuse((hosts == 0) & allocated.any(axis=1), first, "has allocated subclusters but no cluster")
        kinds = np.zeros(allocated.shape, np.uint8)
        kinds[zeros] = ZERO
        kinds[allocated] = PLAIN
        kinds[compressed] = COMPRESSED
        step = np.arange(SUBCLUSTERS, dtype=np.uint64) * np.uint64(self._geometry.unit_size)
        addresses = np.where(kinds == PLAIN, hosts[:, None] + step, np.uint64(0))
        addresses[compressed] = hosts[compressed, None]
        return Units(kinds.reshape(-1), addresses.reshape(-1))

    def _judge_standard(self, entries: U64, hosts: U64, compressed: npt.NDArray[np.bool_], first: int) -> None:
        geometry = self._geometry
        reserved = L2_RESERVED_EXTENDED if geometry.extended_l2 or geometry.version == 2 else L2_RESERVED
        plain = ~compressed
        self._refuse(plain & ((entries & np.uint64(reserved)) != 0), first, "has reserved bits set")
        self._refuse(
            plain & ((hosts & np.uint64(geometry.cluster_size - 1)) != 0), first, "is not aligned to a cluster"
        )

    def _judge_compressed(self, hosts: U64, compressed: npt.NDArray[np.bool_], first: int) -> None:
        offsets = hosts & np.uint64((1 << self._geometry.sector_shift) - 1)
        self._refuse(
            compressed & (offsets >= np.uint64(self._geometry.file_size)), first,
            "names compressed data beyond the end of the file; the file is truncated or the entry corrupt",
            reason="IMAGE_TRUNCATED",
        )  # fmt: skip
        clusters = offsets & ~np.uint64(self._geometry.cluster_size - 1)
        self._refuse(compressed & self._is_metadata(clusters), first, "names a cluster of metadata as its data")

    def _judge_plain(self, units: Units, first: int) -> None:
        """Data ends inside the file (the last guest cluster only as far as the disk goes) and is not
        metadata."""
        geometry = self._geometry
        plain = units.kinds == PLAIN
        if not plain.any():
            return
        ends = units.hosts + np.uint64(geometry.unit_size)
        beyond = plain & (ends > np.uint64(geometry.file_size))
        if beyond.any():
            guests = np.uint64(first * geometry.cluster_size) + np.arange(len(plain), dtype=np.uint64) * np.uint64(
                geometry.unit_size
            )
            room = np.uint64(geometry.size) - np.minimum(guests, np.uint64(geometry.size))
            needed = np.minimum(room, np.uint64(geometry.unit_size))
            beyond = plain & (units.hosts + needed > np.uint64(geometry.file_size))
            self._refuse(
                beyond, first,
                f"names data beyond the end of the file ({geometry.file_size} bytes); the file is truncated or the "
                "entry corrupt",
                per_cluster=geometry.units_per_cluster, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        clusters = units.hosts & ~np.uint64(geometry.cluster_size - 1)
        self._refuse(
            plain & self._is_metadata(clusters), first, "names a cluster of metadata as its data",
            per_cluster=geometry.units_per_cluster,
        )  # fmt: skip

    def _is_metadata(self, clusters: U64) -> npt.NDArray[np.bool_]:
        at = np.searchsorted(self._forbidden, clusters)
        at[at == len(self._forbidden)] = 0
        return np.asarray(self._forbidden[at] == clusters)

    def _refuse(self, wrong: npt.NDArray[np.bool_], first: int, what: str, *, per_cluster: int = 1, **kw: Any) -> None:
        if wrong.any():
            cluster = first + int(np.argmax(wrong)) // per_cluster
            table, index = divmod(cluster, self._geometry.l2_entries)
            raise MalformedImage(
                f"{self._name}: entry {index} of L2 table {table} (guest offset "
                f"{cluster * self._geometry.cluster_size}) {what}",
                structure=f"L2 table {table} entry {index}",
                **kw,
            )

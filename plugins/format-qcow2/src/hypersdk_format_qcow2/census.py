"""Census: how often every host cluster is referenced, by walking all tables tolerantly.

Unlike the reader, which refuses the first impossible entry, this counts it as a corruption and goes on.
Tables that several snapshots share are walked once, so the work is bounded by the file and not by what its
tables claim.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import Unsupported

from hypersdk_format_qcow2.geometry import (
    FLAG_COMPRESSED,
    L1_RESERVED,
    L2_RESERVED,
    L2_RESERVED_EXTENDED,
    OFFSET_MASK,
    Geometry,
)
from hypersdk_format_qcow2.l1 import U64, load_table

MAX_CLUSTERS = 1 << 27
"""8 TiB of file with clusters of 64 KiB. Counters that nothing touches stay unmapped, so a small image in a
huge sparse file costs little."""
_MAX_L1_ENTRIES = 1 << 26
_MAX_MESSAGES = 100


class Faults:
    """Corruptions found, and the first hundred told."""

    def __init__(self) -> None:
        self.count = 0
        self.messages: list[str] = []

    def add(self, message: str, count: int = 1) -> None:
        if count:
            self.count += count
            self.tell(message)

    def tell(self, message: str) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)


class Census:
    """Life: `area` and `l1_table` for everything that the header leads to, `walk` once, then read
    `references`."""

    def __init__(self, file: ImageFile, geometry: Geometry, faults: Faults) -> None:
        """Raises Unsupported (CHECK_TOO_LARGE) for files above MAX_CLUSTERS."""
        clusters = -(-geometry.file_size // geometry.cluster_size)
        if clusters > MAX_CLUSTERS:
            raise _too_large(file, f"{clusters} clusters are above {MAX_CLUSTERS}")
        self.references = np.zeros(clusters, np.uint32)
        self._file = file
        self._geometry = geometry
        self._faults = faults
        self._tables: list[U64] = []
        self._l1_entries = 0

    def area(self, offset: int, length: int, structure: str) -> None:
        """`length` bytes at `offset` belong to `structure`."""
        cluster = self._geometry.cluster_size
        first, end = offset // cluster, -(-(offset + length) // cluster)
        if end > len(self.references):
            self._faults.add(f"{structure} at offset {offset} reaches beyond the end of the file")
            end = len(self.references)
        self.references[first:end] += np.uint32(1)

    def l1_table(self, offset: int, entries: int, structure: str) -> U64:
        """Count the table itself and note the L2 tables it names. Returns its raw entries, wrong ones as
        0."""
        self._l1_entries += entries
        if self._l1_entries > _MAX_L1_ENTRIES:
            raise _too_large(self._file, f"more than {_MAX_L1_ENTRIES} L1 entries in all snapshots")
        self.area(offset, entries * 8, structure)
        raw = load_table(self._file, offset, entries, structure)
        tables = raw & np.uint64(OFFSET_MASK)
        wrong = (raw & np.uint64(L1_RESERVED)) != 0
        wrong |= self._impossible(tables)
        if wrong.any():
            index = int(np.argmax(wrong))
            self._faults.add(
                f"{structure}: {int(wrong.sum())} impossible entries, the first is {index} (0x{int(raw[index]):016x})",
                int(wrong.sum()),
            )
            raw[wrong] = tables[wrong] = 0
        self._tables.append(tables[tables != 0])
        return raw

    def walk(self) -> None:
        """Visit every L2 table once and count what it refers to, times the L1 entries that name it."""
        if not self._tables:
            return
        offsets, counts = np.unique(np.concatenate(self._tables), return_counts=True)
        bits = np.uint64(self._geometry.cluster_bits)
        np.add.at(self.references, (offsets >> bits).astype(np.int64), counts.astype(np.uint32))
        for offset, count in zip(offsets.tolist(), counts.tolist(), strict=True):
            self._table(offset, count)

    def entries(self, offset: int) -> U64:
        """First words of the entries of the L2 table at `offset`."""
        geometry = self._geometry
        words = load_table(self._file, offset, geometry.l2_entries * geometry.entry_words, "L2 table")
        return words[:: geometry.entry_words]

    def active_tables(self, l1: U64) -> Iterator[tuple[int, U64]]:
        """(index, entries) of the L2 tables that `l1` names."""
        for index in np.flatnonzero(l1 & np.uint64(OFFSET_MASK)).tolist():
            yield index, self.entries(int(l1[index]) & OFFSET_MASK)

    def _table(self, offset: int, count: int) -> None:
        geometry, bits = self._geometry, np.uint64(self._geometry.cluster_bits)
        entries = self.entries(offset)
        compressed = (entries & np.uint64(FLAG_COMPRESSED)) != 0
        plain = np.where(compressed, np.uint64(0), entries & np.uint64(OFFSET_MASK))
        reserved = L2_RESERVED_EXTENDED if geometry.extended_l2 or geometry.version == 2 else L2_RESERVED
        wrong = ~compressed & ((entries & np.uint64(reserved)) != 0)
        wrong |= self._impossible(plain)
        used = (plain[(plain != 0) & ~wrong] >> bits).astype(np.int64)
        np.add.at(self.references, used, np.uint32(count))
        beyond = self._count_compressed(entries[compressed] & np.uint64(FLAG_COMPRESSED - 1), count)
        self._faults.add(
            f"L2 table at offset {offset}: {int(wrong.sum()) + beyond} entries are impossible or lead beyond the file",
            int(wrong.sum()) + beyond,
        )

    def _count_compressed(self, entries: U64, count: int) -> int:
        """Count the clusters that compressed data touches (three at most, by the width of the sector count);
        returns how many entries reach beyond the file."""
        shift, bits = self._geometry.sector_shift, np.uint64(self._geometry.cluster_bits)
        offsets = entries & np.uint64((1 << shift) - 1)
        ends = (offsets & ~np.uint64(511)) + ((entries >> np.uint64(shift)) + np.uint64(1)) * np.uint64(512)
        firsts = (offsets >> bits).astype(np.int64)
        lasts = ((ends - np.uint64(1)) >> bits).astype(np.int64)
        inside = lasts < len(self.references)
        firsts, lasts = firsts[inside], lasts[inside]
        for step in range(3):
            touched = firsts + step
            np.add.at(self.references, touched[touched <= lasts], np.uint32(count))
        return int((~inside).sum())

    def _impossible(self, offsets: U64) -> npt.NDArray[np.bool_]:
        """Not aligned, or in no cluster of the file."""
        cluster = np.uint64(self._geometry.cluster_size)
        end = np.uint64(len(self.references)) * cluster
        return np.asarray(((offsets & (cluster - np.uint64(1))) != 0) | (offsets >= end))


def _too_large(file: ImageFile, what: str) -> Unsupported:
    return Unsupported(f"{file.path.name} cannot be checked in memory: {what}", reason="CHECK_TOO_LARGE")

"""Two-level tables of 64-bit entries, as QCOW and QED have them: a directory (L1) of equal tables (L2).

Gives raw entries and knows which tables exist; what an entry means is the format's business.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.unitmap import I64, U64
from hypersdk.errors import MalformedImage

MAX_DIRECTORY = 64 << 20
"""Bytes; with QEMU's default clusters that is a disk of 16 TiB (QCOW) or more (QED)."""
MAX_TABLES = 1 << 21
"""That exist. With QCOW's default clusters they map 4 TiB of data; judging them takes some 120 MiB."""
_STEP = 1 << 20


class TwoLevel(NamedTuple):
    """The tables that exist: their places in the directory, ascending, and their offsets in the file."""

    file: ImageFile
    dtype: str
    table_entries: int
    numbers: I64
    offsets: U64

    @classmethod
    def load(
        cls, file: ImageFile, dtype: str, offset: int, entries: int, table_entries: int, *, align: int = 1
    ) -> TwoLevel:
        """Read a directory of `entries` at byte `offset`, both `dtype` (">u8" or "<u8"), a piece at a time, and
        judge it. Raises MalformedImage for tables out of the file, not on a multiple of `align`, or used twice."""
        name, table_bytes = file.path.name, table_entries * 8
        if entries * 8 > MAX_DIRECTORY or offset + entries * 8 > file.size:
            raise MalformedImage(
                f"{name}: L1 table at offset {offset} has {entries} entries; the file has {file.size} bytes, and at "
                f"most {MAX_DIRECTORY // 8} entries are read",
                structure="L1 table", offset=offset,
                reason="IMAGE_TRUNCATED" if offset + entries * 8 > file.size else "IMAGE_MALFORMED",
            )  # fmt: skip
        numbers, offsets, found = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
        for start in range(0, entries * 8, _STEP):
            blob = file.pread(offset + start, min(_STEP, entries * 8 - start), structure="L1 table")
            words = np.frombuffer(blob, dtype).astype(np.uint64)
            used = np.flatnonzero(words)
            found += len(used)
            if found > min(MAX_TABLES, file.size // table_bytes):
                raise MalformedImage(
                    f"{name}: L1 table at offset {offset} names more L2 tables than the file has room for, or more "
                    f"than {MAX_TABLES}",
                    structure="L1 table", offset=offset,
                )  # fmt: skip
            numbers.append(used.astype(np.int64) + start // 8)
            offsets.append(words[used])
        tables = cls(file, dtype, table_entries, np.concatenate(numbers), np.concatenate(offsets))
        tables._judge(offset, align)
        return tables

    def _judge(self, directory: int, align: int) -> None:
        held, table_bytes = np.uint64(self.file.size), np.uint64(self.table_entries * 8)
        beyond = (self.offsets > held) | (table_bytes > held - self.offsets)
        bad = np.flatnonzero(beyond | (self.offsets % np.uint64(align) != 0))
        fault = "is not all in the file or not aligned"
        if not len(bad):
            order = np.argsort(self.offsets, kind="stable")
            ordered = self.offsets[order]
            bad = order[1:][ordered[1:] - ordered[:-1] < table_bytes]
            fault = "overlaps another"
        if len(bad):
            number, place = int(self.numbers[bad[0]]), int(self.offsets[bad[0]])
            cut = fault.startswith("is") and bool(beyond[bad[0]])
            raise MalformedImage(
                f"{self.file.path.name}: L2 table {number} at offset {place} {fault}",
                structure=f"L1 table entry {number}", offset=directory + number * 8,
                reason="IMAGE_TRUNCATED" if cut else "IMAGE_MALFORMED",
            )  # fmt: skip

    def read(self, first: int, count: int) -> U64:
        """The raw entries of `count` units from unit `first`, which one table holds. Zeros where there is none."""
        number, index = divmod(first, self.table_entries)
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or int(self.numbers[at]) != number:
            return np.zeros(count, np.uint64)
        blob = self.file.pread(int(self.offsets[at]) + index * 8, count * 8, structure=f"L2 table {number}")
        return np.frombuffer(blob, self.dtype).astype(np.uint64)

"""VpcSource: where the bytes of a VHD lie, by its kind; everything else is MappedSource's.

A block's sector bitmap counts in every kind of disk that has one: a sector whose bit is clear was never written
(VHD 1.0, "Block Allocation Table and Data Blocks"), so it is the parent's, or zeros without a parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from hypersdk.data.blockruns import BlockRuns, Entries, Run, RunKind
from hypersdk.data.extent import Extent
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.mappedsource import MappedSource
from hypersdk.data.source import BlockSource
from hypersdk.data.sparse import file_extents
from hypersdk.errors import FailedPrecondition

from hypersdk_format_vpc.bat import Table, positions
from hypersdk_format_vpc.header import DynamicHeader
from hypersdk_format_vpc.layout import SECTOR


class FixedSource(MappedSource):
    """The disk is the file up to its footer; holes of the file are zeros that need not be read."""

    def __init__(self, file: ImageFile, size: int, facts: dict[str, Any]) -> None:
        super().__init__(file, size)
        self._facts = facts

    @property
    def granularity(self) -> int:
        return 4096

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        yield Run(RunKind.DATA, offset, end - offset, offset)

    def _extents(self, offset: int, end: int) -> Iterator[Extent]:
        base = self._file.base
        for extent in file_extents(self._file.fileno(), base + offset, base + end):
            yield extent._replace(offset=extent.offset - base)

    def info(self) -> dict[str, Any]:
        return {"format": "vpc", "virtual_size": self.size, **self._facts}


class BlockedSource(MappedSource):
    """A dynamic or differencing disk, its table judged."""

    def __init__(
        self,
        file: ImageFile,
        size: int,
        header: DynamicHeader,
        table: Table,
        facts: dict[str, Any],
        *,
        parent: BlockSource | None = None,
        refusal: FailedPrecondition | None = None,
    ) -> None:
        super().__init__(file, size, parent=parent, refusal=refusal)
        self._header = header
        self._table = table
        self._map = BlockRuns(self._load, header.block)
        self._all_set = b"\xff" * (header.block // SECTOR // 8)
        self._facts = facts

    @property
    def granularity(self) -> int:
        return self._header.block

    def _load(self, first: int, count: int) -> Entries:
        return positions(self._table, self._header.bitmap_bytes, first, count)

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        for run in self._map.runs(offset, end):
            if run.kind is RunKind.DATA:  # never more than one block: a bitmap lies between two
                yield from self._stored(run)
            else:
                yield run

    def _stored(self, run: Run) -> Iterator[Run]:
        """Split a block's run by its bitmap."""
        block, bitmap_bytes = self._header.block, self._header.bitmap_bytes
        inside = run.offset % block
        bitmap = self._file.pread(run.position - inside - bitmap_bytes, bitmap_bytes, structure="sector bitmap")
        if self._all_set and bitmap.startswith(self._all_set):
            yield run
            return
        low, high = inside // SECTOR, -(-(inside + run.length) // SECTOR)
        bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8))[low:high]
        edges = [low, *(np.flatnonzero(bits[1:] != bits[:-1]) + (low + 1)).tolist(), high]
        is_set = bool(bits[0])
        for first, last in pairwise(edges):
            start, stop = max(inside, first * SECTOR), min(inside + run.length, last * SECTOR)
            offset = run.offset + start - inside
            if is_set:
                yield Run(RunKind.DATA, offset, stop - start, run.position + start - inside)
            else:
                yield Run(RunKind.BELOW, offset, stop - start)
            is_set = not is_set

    def info(self) -> dict[str, Any]:
        return {"format": "vpc", "virtual_size": self.size, **self._facts}



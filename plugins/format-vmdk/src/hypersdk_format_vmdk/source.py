"""VmdkSource: extents behind one another over an optional parent, as one BlockSource.

It decides which extent a byte belongs to and what unallocated means; how an extent finds its bytes is `extents`', how
all this is put together from files is `opening`'s.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind, FileRange, coalesce
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, OutOfRange

from hypersdk_format_vmdk.extents import DiskExtent, Run, RunKind, fill_zero


class VmdkSource(BlockSource):
    """Open until `close`, which closes the file, the extents' files and the parents. `facts` is what `info` adds;
    with a `refusal`, `info` is all it gives: reading raises it."""

    def __init__(
        self,
        file: ImageFile,
        extents: Sequence[DiskExtent],
        facts: dict[str, Any],
        *,
        parent: BlockSource | None = None,
        refusal: FailedPrecondition | None = None,
    ) -> None:
        self._file = file
        self._extents = tuple(extents)
        self._starts = [0]
        for extent in extents:
            self._starts.append(self._starts[-1] + extent.size)
        self._facts = facts
        self.parent = parent
        self._refusal = refusal

    @property
    def size(self) -> int:
        return self._starts[-1]

    @property
    def granularity(self) -> int:
        return max((extent.granularity for extent in self._extents), default=65536)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.size if length is None else offset + length
        self._check_range(offset, end)
        return coalesce(self._kinds(offset, end))

    def _kinds(self, offset: int, end: int) -> Iterator[Extent]:
        for start, _extent, run in self._runs(offset, end):
            at = start + run.offset
            if run.kind is RunKind.UNALLOCATED and self.parent is not None:
                yield from _parent_extents(self.parent, at, run.length)
            else:
                yield Extent(at, run.length, ExtentKind.DATA if run.kind is RunKind.DATA else ExtentKind.ZERO)

    def _runs(self, offset: int, end: int) -> Iterator[tuple[int, DiskExtent, Run]]:
        for start, extent, low, high in self._pieces(offset, end):
            for run in extent.runs(low, high):
                yield start, extent, run

    def _pieces(self, offset: int, end: int) -> Iterator[tuple[int, DiskExtent, int, int]]:
        """The extents of [offset, end): where each starts in the disk, itself, and the part of it, from its 0."""
        index = bisect.bisect_right(self._starts, offset) - 1
        while offset < end:
            start = self._starts[index]
            stop = min(end, self._starts[index + 1])
            yield start, self._extents[index], offset - start, stop - start
            offset = stop
            index += 1

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check_range(offset, offset + len(buffer))
        for start, extent, low, high in self._pieces(offset, offset + len(buffer)):

            def below(at: int, view: memoryview, start: int = start) -> None:
                self._read_parent(start + at, view)

            extent.read(low, buffer[start + low - offset : start + high - offset], below)

    def _read_parent(self, offset: int, view: memoryview) -> None:
        held = 0
        if self.parent is not None:
            held = max(0, min(len(view), self.parent.size - offset))
            if held:
                self.parent.readinto(offset, view[:held])
        if held < len(view):
            fill_zero(view[held:])

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check_range(offset, offset + length)
        found: list[FileRange] = []
        for start, extent, run in self._runs(offset, offset + length):
            if run.kind is RunKind.UNALLOCATED and self.parent is not None:
                at = start + run.offset
                if at + run.length > self.parent.size:
                    return None
                below = self.parent.file_ranges(at, run.length)
                if below is None:
                    return None
                found.extend(below)
            elif run.position < 0 or extent.file is None:
                return None
            else:
                found.append(FileRange(extent.file.fileno(), extent.file.base + run.position, run.length))
        return iter(found)

    def info(self) -> dict[str, Any]:
        return {
            "format": "vmdk",
            "virtual_size": self.size,
            "cluster_size": self.granularity,
            "dirty": False,
            **self._facts,
            "details": {**self._facts.get("details", {}), "extents": [e.details() for e in self._extents]},
        }

    def close(self) -> None:
        if self.parent is not None:
            self.parent.close()
        self._file.close()

    def _check_range(self, offset: int, end: int) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not 0 <= offset <= end <= self.size:
            raise OutOfRange(f"bytes {offset} to {end} are not all in a disk of {self.size} bytes")


def _parent_extents(parent: BlockSource, offset: int, length: int) -> Iterator[Extent]:
    held = max(0, min(length, parent.size - offset))
    if held:
        yield from parent.extents(offset, held)
    if held < length:
        yield Extent(offset + held, length - held, ExtentKind.ZERO)

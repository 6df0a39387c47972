"""VhdxSource: the blocks of one image as a BlockSource, over its parent if it has one.

Where bytes lie is `blockmap`'s and `bitmaps`'; how it all comes from a file is `opening`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind, FileRange, coalesce
from hypersdk.data.source import BlockSource
from hypersdk.data.sparse import file_extents
from hypersdk.errors import FailedPrecondition, OutOfRange

from hypersdk_format_vhdx.bitmaps import sector_runs
from hypersdk_format_vhdx.blockmap import BlockMap, Run
from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import FULLY_PRESENT, NOT_PRESENT, PARTIALLY_PRESENT
from hypersdk_format_vhdx.replay import ReplayedFile, fill_zeros


class VhdxSource(BlockSource):
    """Open until `close`, which closes the file and the parents. With a `refusal`, `info` is all it gives: reading
    raises it."""

    def __init__(
        self, file: ReplayedFile, geometry: Geometry, blocks: BlockMap, info: Mapping[str, Any],
        parent: BlockSource | None = None, refusal: FailedPrecondition | None = None,
    ) -> None:  # fmt: skip
        self._file = file
        self._geometry = geometry
        self._blocks = blocks
        self._info = info
        self.parent = parent
        self._refusal = refusal

    @property
    def size(self) -> int:
        return self._geometry.size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.size if length is None else offset + length
        self._check(offset, end)
        return coalesce(self._extents(offset, end - offset))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for run in self._runs(offset, length):
            if run.kind == NOT_PRESENT and self.parent is not None:
                yield from self._parent_extents(run)
            elif run.kind == FULLY_PRESENT:
                yield from self._stored_extents(run)
            else:
                yield Extent(run.offset, run.length, ExtentKind.ZERO)

    def _runs(self, offset: int, length: int) -> Iterator[Run]:
        for run in self._blocks.runs(offset, length):
            if run.kind == PARTIALLY_PRESENT:
                yield from sector_runs(self._file, self._geometry, self._blocks, run)
            else:
                yield run

    def _parent_extents(self, run: Run) -> Iterator[Extent]:
        assert self.parent is not None
        held = max(0, min(run.length, self.parent.size - run.offset))
        if held:
            yield from self.parent.extents(run.offset, held)
        if held < run.length:
            yield Extent(run.offset + held, run.length - held, ExtentKind.ZERO)

    def _stored_extents(self, run: Run) -> Iterator[Extent]:
        """Blocks are large and are allocated at once: what nobody wrote in them is mostly a hole of the file."""
        if not self._file.is_plain(run.place, run.length):
            yield Extent(run.offset, run.length, ExtentKind.DATA)
            return
        plain = self._file.file
        shift = plain.base + run.place - run.offset
        for extent in file_extents(plain.fileno(), shift + run.offset, shift + run.offset + run.length):
            yield Extent(extent.offset - shift, extent.length, extent.kind)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        for run in self._runs(offset, len(buffer)):
            view = buffer[run.offset - offset : run.offset - offset + run.length]
            if run.kind == FULLY_PRESENT:
                self._file.preadinto(run.place, view, structure=f"block {run.offset // self._geometry.block}")
            elif run.kind == NOT_PRESENT and self.parent is not None:
                held = max(0, min(run.length, self.parent.size - run.offset))
                if held:
                    self.parent.readinto(run.offset, view[:held])
                fill_zeros(view[held:])
            else:
                fill_zeros(view)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check(offset, offset + length)
        plain = self._file.file
        found: list[FileRange] = []
        for run in self._runs(offset, length):
            if run.kind == FULLY_PRESENT and self._file.is_plain(run.place, run.length):
                found.append(FileRange(plain.fileno(), plain.base + run.place, run.length))
                continue
            if run.kind != NOT_PRESENT or self.parent is None or run.offset + run.length > self.parent.size:
                return None
            below = self.parent.file_ranges(run.offset, run.length)
            if below is None:
                return None
            found.extend(below)
        return iter(found)

    def info(self) -> dict[str, Any]:
        return dict(self._info)

    def close(self) -> None:
        if self.parent is not None:
            self.parent.close()
        self._file.file.close()

    def _check(self, offset: int, end: int) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not 0 <= offset <= end <= self.size:
            raise OutOfRange(
                f"{self._file.name}: bytes {offset} to {end} are not all in a disk of {self.size} bytes",
                metadata={"size": str(self.size)},
            )

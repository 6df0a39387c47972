"""MappedSource: a BlockSource made of runs that lie in one plain file, over an optional parent of any kind.

A format subclasses it and tells where the bytes are (`runs`); reading, extents and file ranges follow from that. Not
for compressed formats: there a run's bytes are not in the file as they are.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator

from hypersdk.data.blockruns import Run, RunKind
from hypersdk.data.extent import Extent, ExtentKind, FileRange, coalesce
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, OutOfRange

_ZEROS = bytes(1 << 20)


class MappedSource(BlockSource):
    """Owns `file` and `parent`, and closes them. With a `refusal`, `info` is all it gives: reading raises it."""

    def __init__(
        self,
        file: ImageFile,
        size: int,
        *,
        parent: BlockSource | None = None,
        refusal: FailedPrecondition | None = None,
    ) -> None:
        """`size`: virtual, bytes."""
        self._file = file
        self._size = size
        self._parent = parent
        self._refusal = refusal

    @property
    def size(self) -> int:
        return self._size

    @abc.abstractmethod
    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """Runs in order that cover [offset, end) exactly. Thread-safe."""

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._size if length is None else offset + length
        self._check_range(offset, end)
        return coalesce(self._extents(offset, end))

    def _extents(self, offset: int, end: int) -> Iterator[Extent]:
        for run in self.runs(offset, end):
            held = self._held_below(run)
            if held and self._parent is not None:
                yield from self._parent.extents(run.offset, held)
            if held < run.length:
                kind = ExtentKind.DATA if run.kind is RunKind.DATA else ExtentKind.ZERO
                yield Extent(run.offset + held, run.length - held, kind)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check_range(offset, offset + len(buffer))
        for run in self.runs(offset, offset + len(buffer)):
            view = buffer[run.offset - offset : run.offset - offset + run.length]
            if run.kind is RunKind.DATA:
                self._file.preadinto(run.position, view, structure="data")
                continue
            held = self._held_below(run)
            if held and self._parent is not None:
                self._parent.readinto(run.offset, view[:held])
            for at in range(held, run.length, len(_ZEROS)):
                piece = view[at : at + len(_ZEROS)]
                piece[:] = _ZEROS[: len(piece)]

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check_range(offset, offset + length)
        found: list[FileRange] = []
        for run in self.runs(offset, offset + length):
            if run.kind is RunKind.DATA:
                found.append(FileRange(self._file.fileno(), self._file.base + run.position, run.length))
                continue
            if self._parent is None or self._held_below(run) != run.length:
                return None
            below = self._parent.file_ranges(run.offset, run.length)
            if below is None:
                return None
            found.extend(below)
        return iter(found)

    def _held_below(self, run: Run) -> int:
        """How many bytes from the run's start are the parent's, which may be a smaller disk."""
        if run.kind is not RunKind.BELOW or self._parent is None:
            return 0
        return max(0, min(run.length, self._parent.size - run.offset))

    def close(self) -> None:
        if self._parent is not None:
            self._parent.close()
        self._file.close()

    def _check_range(self, offset: int, end: int) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(
                f"bytes {offset} to {end} are not all in a disk of {self._size} bytes", reason="OFFSET_PAST_END"
            )

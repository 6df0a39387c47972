"""WindowSource: a part of a disk (a partition, a range to restore) as a disk of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.extent import Extent, FileRange
from hypersdk.data.filters.forward import ForwardingSource
from hypersdk.data.source import BlockSource
from hypersdk.errors import OutOfRange


class WindowSource(ForwardingSource):
    """[start, start+length) of `inner`, its first byte at offset 0. Raises OutOfRange (WINDOW_PAST_END)."""

    def __init__(self, inner: BlockSource, start: int, length: int) -> None:
        super().__init__(inner)
        if start < 0 or length < 0 or start + length > inner.size:
            raise OutOfRange(
                f"the window [{start}, {start + length}) is not inside a disk of {inner.size} bytes",
                reason="WINDOW_PAST_END",
            )
        self._start = start
        self._length = length

    @property
    def size(self) -> int:
        return self._length

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        length = self._checked(offset, self._length - offset if length is None else length)
        for extent in self._inner.extents(self._start + offset, length):
            yield Extent(extent.offset - self._start, extent.length, extent.kind)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._checked(offset, len(buffer))
        self._inner.readinto(self._start + offset, buffer)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        return self._inner.file_ranges(self._start + offset, self._checked(offset, length))

    def info(self) -> dict[str, Any]:
        return {**self._inner.info(), "virtual_size": self._length}

    def _checked(self, offset: int, length: int) -> int:
        if offset < 0 or length < 0 or offset + length > self._length:
            raise OutOfRange(
                f"[{offset}, {offset + length}) is not inside a window of {self._length} bytes",
                reason="OFFSET_PAST_END",
            )
        return length

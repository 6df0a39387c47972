"""BlankSource: a disk that reads as zeros everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.source import BlockSource
from hypersdk.errors import OutOfRange


class BlankSource(BlockSource):
    """What a package or a platform declares without a file. Stateless."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._size if length is None else offset + length
        self._check(offset, end)
        if offset < end:
            yield Extent(offset, end - offset, ExtentKind.ZERO)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        buffer[:] = bytes(len(buffer))

    def info(self) -> dict[str, Any]:
        return {"format": "blank", "virtual_size": self._size}

    def _check(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(f"[{offset}, {end}) is not inside a disk of {self._size} bytes", reason="OFFSET_PAST_END")

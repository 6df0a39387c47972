"""RawSource: a plain file as a disk. Its holes are the zero extents, all of it is one file range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.extent import Extent, FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.data.sparse import file_extents
from hypersdk.errors import OutOfRange

BLOCK_BYTES = 4096
"""The unit in which file systems of today keep holes."""


class RawSource(BlockSource):
    """Reads `file`, which it owns from now on. The size is what the file had when it was opened; a file that
    shrinks later gives IMAGE_TRUNCATED."""

    def __init__(self, file: ImageFile) -> None:
        self._file = file
        self._size = file.size

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return BLOCK_BYTES

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._size if length is None else offset + length
        self._check(offset, end)
        base = self._file.base
        return (
            Extent(e.offset - base, e.length, e.kind)
            for e in file_extents(self._file.fileno(), base + offset, base + end)
        )

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        self._file.preadinto(offset, buffer, structure="raw data")

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check(offset, offset + length)
        return iter((FileRange(self._file.fileno(), self._file.base + offset, length),))

    def info(self) -> dict[str, Any]:
        return {"format": "raw", "virtual_size": self._size, "details": {}}

    def close(self) -> None:
        self._file.close()

    def _check(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(
                f"[{offset}, {end}) is not inside the {self._size} bytes of {self._file.path.name}",
                reason="OFFSET_PAST_END",
            )

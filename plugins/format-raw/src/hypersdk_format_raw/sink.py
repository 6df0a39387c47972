"""RawSink: a disk written into a plain file of its size, which begins as one hole."""

from __future__ import annotations

from typing import Any

from hypersdk.data.extent import FileRange
from hypersdk.data.filecopy import copy_range
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import OutOfRange

from hypersdk_format_raw.source import BLOCK_BYTES

_ZEROS = bytes(1 << 20)


class RawSink(BlockSink):
    """Everything from `written_end` on is a hole, so zeros there cost nothing; zeros below it, which only a
    writer that goes back can mean, are written out."""

    random_access = True

    def __init__(self, file: ImageFile, size: int, *, written_end: int) -> None:
        self._file = file
        self._size = size
        self._end = written_end

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return BLOCK_BYTES

    def write(self, offset: int, data: Buffer) -> None:
        self._check(offset, len(data))
        self._file.pwrite(offset, data)
        self._end = max(self._end, offset + len(data))

    def zero(self, offset: int, length: int) -> None:
        self._check(offset, length)
        stale_end = min(self._end, offset + length)
        for at in range(offset, stale_end, len(_ZEROS)):
            self._file.pwrite(at, memoryview(_ZEROS)[: stale_end - at])

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        self._check(offset, source.length)
        copy_range(source.fd, source.file_offset, self._file.fileno(), self._file.base + offset, source.length)
        self._end = max(self._end, offset + source.length)
        return True

    def checkpoint(self) -> dict[str, Any]:
        self._file.datasync()
        return {"written_end": self._end, "size": self._size}

    def finish(self) -> dict[str, Any]:
        self._file.datasync()
        return {"allocated_bytes": self._file.allocated_bytes, "file_size": self._file.size}

    def abort(self) -> None:
        """Nothing to undo: the file's creator deletes it."""

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self._size:
            raise OutOfRange(
                f"[{offset}, {offset + length}) is not inside a disk of {self._size} bytes",
                reason="OFFSET_PAST_END",
            )

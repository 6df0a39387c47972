"""FlatSink: a disk written in its own order into a part of a plain file (fixed VHD, static VDI).

Holes of the disk become holes of the file. What the format puts around the disk is its subclass's affair (`_seal`).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from hypersdk.data.extent import FileRange
from hypersdk.data.filecopy import copy_range
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange

FLAT_UNIT = 4096
"""The unit in which file systems of today keep holes, bytes."""

_ZEROS = bytes(1 << 20)


class FlatSink(BlockSink):
    """Byte n of the disk is byte `start` + n of `file`, which reads as zeros from there on when the sink is made."""

    random_access = True

    def __init__(self, file: ImageFile, size: int, *, start: int, written_end: int = 0) -> None:
        self._file = file
        self._size = size
        self._start = start
        self._end = written_end
        self._closed = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return FLAT_UNIT

    def write(self, offset: int, data: Buffer) -> None:
        self._check(offset, len(data))
        self._file.pwrite(self._start + offset, data)
        self._end = max(self._end, offset + len(data))

    def zero(self, offset: int, length: int) -> None:
        self._check(offset, length)
        stale_end = min(self._end, offset + length)
        for at in range(offset, stale_end, len(_ZEROS)):
            self._file.pwrite(self._start + at, memoryview(_ZEROS)[: stale_end - at])

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        self._check(offset, source.length)
        target = self._file.base + self._start + offset
        copy_range(source.fd, source.file_offset, self._file.fileno(), target, source.length)
        self._end = max(self._end, offset + source.length)
        return True

    def checkpoint(self) -> dict[str, Any]:
        self._file.datasync()
        return {"layout": "flat", "size": self._size, "start": self._start, "written_end": self._end}

    def finish(self) -> dict[str, Any]:
        self._check(0, 0)
        self._seal()
        self._file.datasync()
        self._closed = True
        return {"allocated_bytes": self._file.allocated_bytes, "file_size": self._file.size}

    def abort(self) -> None:
        self._closed = True

    @abc.abstractmethod
    def _seal(self) -> None:
        """Write what belongs around a complete disk; also gives the file its size."""

    def _check(self, offset: int, length: int) -> None:
        if self._closed:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")
        if offset < 0 or offset + length > self._size:
            raise OutOfRange(
                f"bytes {offset} to {offset + length} are not all in a disk of {self._size} bytes",
                reason="OFFSET_PAST_END",
            )


def resume_flat(file: ImageFile, state: Mapping[str, Any], *, size: int, start: int) -> int:
    """Check that `state` is a FlatSink's of this disk and cut off what was written after it. The end of what is
    durable, for `written_end`. Raises InvalidArgument (RESUME_STATE_INVALID)."""
    end = state.get("written_end")
    same = (state.get("layout"), state.get("size"), state.get("start")) == ("flat", size, start)
    if not same or isinstance(end, bool) or not isinstance(end, int) or not 0 <= end <= size:
        raise InvalidArgument(
            "cannot resume from this checkpoint: it is of another disk, other options or another version of this "
            "writer; start anew", reason="RESUME_STATE_INVALID",
        )  # fmt: skip
    if file.size < start + end:
        raise InvalidArgument(
            f"cannot resume from this checkpoint: {file.path.name} has {file.size} bytes, fewer than were written; "
            "start anew", reason="RESUME_STATE_INVALID",
        )  # fmt: skip
    file.truncate(start + end)
    return end

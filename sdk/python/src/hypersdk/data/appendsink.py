"""AppendSink: a disk written as blocks that are appended to a file, with a flat table of where they are.

The writer's half of `blockruns`, for dynamic VHD and VDI. Blocks are allocated in ascending order, so consecutive guest
data is consecutive in the file and copy_file_range moves whole extents; what of a block is never written stays a hole.
The format says how a table entry looks and what surrounds the blocks.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hypersdk.data.extent import FileRange
from hypersdk.data.filecopy import copy_range
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange

UNIT = 4096
"""Granularity, bytes: what file systems keep holes in. Much finer than a block, so that small islands of data cost
little space and most data can be copied from file to file."""

_WINDOW = 16384
_EMPTY = 0xFFFFFFFF
"""What both formats' tables have for a block that is not stored."""

Table = npt.NDArray[np.unsignedinteger[Any]]


class BlockTable:
    """32-bit entries at `offset` of `file`, set in ascending order; a window of 64 KiB of them is in memory."""

    def __init__(self, file: ImageFile, offset: int, count: int, dtype: str) -> None:
        """`dtype`: numpy's name of the entry's type, ">u4" or "<u4"."""
        self._file = file
        self._offset = offset
        self._count = count
        self._dtype = np.dtype(dtype)
        self._first = 0
        self._window = self._empty()
        self._dirty = False

    def clear(self, first: int = 0) -> None:
        """All entries from `first` on are empty, in the file too."""
        blank = memoryview(b"\xff" * (1 << 20))
        start, end = self._offset + first * 4, self._offset + self._count * 4
        for at in range(start, end, len(blank)):
            self._file.pwrite(at, blank[: end - at])

    def load(self, index: int) -> None:
        """Go on at `index`, with what the file holds."""
        self._first = index - index % _WINDOW
        count = min(_WINDOW, self._count - self._first)
        raw = self._file.pread(self._offset + self._first * 4, count * 4, structure="block table")
        self._window = self._empty()
        self._window[:count] = np.frombuffer(raw, dtype=self._dtype)

    def set(self, index: int, entries: npt.NDArray[np.int64]) -> None:
        """The entries of the blocks from `index` on."""
        while len(entries):
            if not self._first <= index < self._first + _WINDOW:
                self.flush()
                self._first = index - index % _WINDOW
                self._window = self._empty()
            low = index - self._first
            count = min(len(entries), _WINDOW - low)
            self._window[low : low + count] = entries[:count]
            self._dirty = True
            entries, index = entries[count:], index + count

    def flush(self) -> None:
        if self._dirty:
            count = min(_WINDOW, self._count - self._first)
            self._file.pwrite(self._offset + self._first * 4, self._window[:count].tobytes())
            self._dirty = False

    def _empty(self) -> Table:
        return np.full(_WINDOW, _EMPTY, dtype=self._dtype)


class AppendSink(BlockSink):
    """A block takes `lead` bytes of the format's own and `block` bytes of data, the first one at `start`."""

    def __init__(self, file: ImageFile, size: int, table: BlockTable, *, block: int, lead: int, start: int) -> None:
        self._file = file
        self._size = size
        self._table = table
        self._block = block
        self._lead = lead
        self._start = start
        self._blocks = 0  # allocated
        self._last = -1  # the guest block that was allocated last
        self._next = 0  # the byte of the disk where writing may go on
        self._closed = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return UNIT

    @property
    def _end(self) -> int:
        """Where the next block goes."""
        return self._start + self._blocks * (self._lead + self._block)

    @abc.abstractmethod
    def _entries(self, number: int, count: int) -> npt.NDArray[np.int64]:
        """Table entries of the blocks `number` to `number` + `count`, counted in the order of the file."""

    @abc.abstractmethod
    def _surround(self, number: int, count: int) -> None:
        """Write what leads these blocks."""

    @abc.abstractmethod
    def _seal(self, *, complete: bool) -> None:
        """The file has its length and its table: write the rest, for a checkpoint or a complete image."""

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        for at, position, length in self._place(offset, len(view)):
            self._file.pwrite(position, view[at : at + length])

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        target = self._file
        for at, position, length in self._place(offset, source.length):
            copy_range(source.fd, source.file_offset + at, target.fileno(), target.base + position, length)
        return True

    def _place(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Allocate what is missing. Pieces of the range: from its start, position in the file, length."""
        self._check(offset, length)
        if not length:
            return
        first, last = offset // self._block, (offset + length - 1) // self._block
        fresh = max(first, self._last + 1)
        if last >= fresh:
            count = last + 1 - fresh
            self._surround(self._blocks, count)
            self._table.set(fresh, self._entries(self._blocks, count))
            self._blocks += count
            self._last = last
        self._next = offset + length
        # the range's blocks are the last ones of the file, one behind the other
        number = self._blocks - 1 - (last - first)
        at, inside = 0, offset % self._block
        while at < length:
            piece = min(length - at, self._block - inside) if self._lead else length
            position = self._start + number * (self._lead + self._block) + self._lead + inside
            yield at, position, piece
            at, inside, number = at + piece, 0, number + 1

    def checkpoint(self) -> dict[str, Any]:
        self._settle(complete=False)
        return {
            "layout": "blocks", "size": self._size, "block": self._block, "lead": self._lead, "start": self._start,
            "blocks": self._blocks, "last": self._last, "next": self._next,
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, dropping what came after it. Raises InvalidArgument (RESUME_STATE_INVALID)."""
        mine = {"layout": "blocks", "size": self._size, "block": self._block, "lead": self._lead, "start": self._start}
        numbers = [state.get(key) for key in ("blocks", "last", "next")]
        found = {key: state.get(key) for key in mine}
        if found != mine or any(
            isinstance(n, bool) or not isinstance(n, int) for n in numbers
        ):
            raise _invalid("it is of another disk, other options or another version of this writer")
        blocks, last, offset = (int(str(n)) for n in numbers)
        low, high = max(0, last) * self._block, min(self._size, (last + 1) * self._block)
        if last < -1 or not 0 <= blocks <= last + 1 or not low <= offset <= high:
            raise _invalid("its numbers contradict each other")
        self._blocks, self._last, self._next = blocks, last, offset
        if self._file.size < self._end:
            raise _invalid(f"{self._file.path.name} has {self._file.size} bytes, fewer than were written")
        self._file.truncate(self._end - self._block + (offset - low) if blocks else self._end)
        self._file.truncate(self._end)
        self._table.clear(last + 1)
        self._table.load(max(0, last))

    def finish(self) -> dict[str, Any]:
        self._check(self._next, 0)
        self._settle(complete=True)
        self._closed = True
        return {
            "virtual_size": self._size,
            "allocated_bytes": self._blocks * self._block,
            "file_size": self._file.size,
        }

    def _settle(self, *, complete: bool) -> None:
        self._table.flush()
        self._file.truncate(self._end)
        self._seal(complete=complete)
        self._file.datasync()

    def abort(self) -> None:
        self._closed = True

    def _check(self, offset: int, length: int) -> None:
        if self._closed:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")
        if offset < 0 or offset + length > self._size:
            raise OutOfRange(
                f"bytes {offset} to {offset + length} are not all in a disk of {self._size} bytes",
                reason="OFFSET_PAST_END",
            )
        if offset < self._next:
            raise FailedPrecondition(
                f"byte {offset} comes after byte {self._next}, but this image is written in ascending order",
                reason="WRITE_OUT_OF_ORDER",
            )


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot resume from this checkpoint: {why}; start anew", reason="RESUME_STATE_INVALID")

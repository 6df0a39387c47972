"""The writers: dynamic disks, whose blocks are appended when something in them is written, and fixed ones.

Guest data is written in ascending order, so consecutive guest data is consecutive in the file, and copy_file_range
moves whole extents. A block is allocated as a whole; what is not written in it stays a hole of the file. That is why
`granularity` is far below the block size, and memory does not depend on it.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from hypersdk.data.extent import FileRange
from hypersdk.data.filecopy import copy_range
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import Aborted, FailedPrecondition, InvalidArgument, OutOfRange

from hypersdk_format_vhdx.batwriter import BatWriter
from hypersdk_format_vhdx.builder import SECTOR, Plan
from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import NOT_PRESENT, ZERO
from hypersdk_format_vhdx.options import CreateOptions

_UNIT = 65536
"""Pieces come in multiples of this; zeros of this size are left out."""


def create_sink(
    file: ImageFile, size: int, options: CreateOptions, resume: Mapping[str, Any] | None
) -> VhdxSink:
    """The sink for a disk of `size` bytes, begun or gone on with. Raises InvalidArgument (RESUME_STATE_INVALID),
    Aborted (RESUME_MISMATCH)."""
    geometry = Geometry(-(-size // SECTOR) * SECTOR, options.block_for(size), SECTOR)
    kind = FixedSink if options.fixed else DynamicSink
    sink = kind(file, size, Plan(geometry, options))
    if resume is None:
        sink.begin()
    else:
        sink.go_on(resume)
    return sink


class VhdxSink(BlockSink):
    """`begin` or `go_on`, then the life of a BlockSink."""

    def __init__(self, file: ImageFile, size: int, plan: Plan) -> None:
        self._file = file
        self._size = size
        self._plan = plan
        self._block = plan.geometry.block
        self._bat = BatWriter(file, plan.geometry, plan.bat_offset)
        self._next = 0
        self._written = 0
        self._closed = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return _UNIT

    @abc.abstractmethod
    def begin(self) -> None:
        """Lay out a new file."""

    @abc.abstractmethod
    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take up the file that a dead process left, dropping what came after its checkpoint."""

    @abc.abstractmethod
    def _allocate(self, offset: int, length: int) -> int:
        """Where in the file these guest bytes go, all in a row."""

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._check(offset, len(view))
        if len(view):
            self._file.pwrite(self._allocate(offset, len(view)), view)
            self._passed(offset, len(view))

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        self._check(offset, source.length)
        target = self._file
        place = target.base + self._allocate(offset, source.length)
        copy_range(source.fd, source.file_offset, target.fileno(), place, source.length)
        self._passed(offset, source.length)
        return True

    def finish(self) -> dict[str, Any]:
        self._check_open()
        self._file.datasync()
        self._plan.write_headers(self._file)
        self._file.datasync()
        self._closed = True
        return {
            "subformat": "fixed" if self._plan.options.fixed else "dynamic",
            "virtual_size": self._plan.geometry.size,
            "allocated_bytes": self._file.allocated_bytes,
            "written_bytes": self._written,
            "file_bytes": self._file.size,
        }

    def abort(self) -> None:
        self._closed = True

    def checkpoint(self) -> dict[str, Any]:
        self._check_open()
        self._file.datasync()
        options = self._plan.options
        return {
            "version": 1,
            "size": self._size,
            "options": [options.fixed, self._block, options.log_size, options.block_state_zero],
            "next": self._next,
            "written": self._written,
        }

    def _restore(self, state: Mapping[str, Any], needed: int) -> None:
        """Check that `state` is of this disk and the file has the `needed` bytes."""
        options = self._plan.options
        if (
            state.get("version") != 1
            or state.get("size") != self._size
            or state.get("options") != [options.fixed, self._block, options.log_size, options.block_state_zero]
        ):
            raise InvalidArgument(
                "cannot resume from this checkpoint: it is of another disk or of other options; start anew",
                reason="RESUME_STATE_INVALID",
            )
        self._next = resume_number(state, "next", self._size)
        self._written = resume_number(state, "written", self._next)
        if self._file.size < needed:
            raise Aborted(
                f"{self._file.path.name} has {self._file.size} bytes, fewer than the {needed} of the checkpoint; "
                "delete the partial file and start again",
                reason="RESUME_MISMATCH",
            )

    def _passed(self, offset: int, length: int) -> None:
        self._next = offset + length
        self._written += length

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")

    def _check(self, offset: int, length: int) -> None:
        self._check_open()
        if offset < 0 or length < 0 or offset + length > self._size:
            raise OutOfRange(f"bytes {offset} to {offset + length} are not all in a disk of {self._size} bytes")
        if offset < self._next:
            raise FailedPrecondition(
                f"byte {offset} comes after byte {self._next}, but this image is written in ascending order",
                reason="WRITE_OUT_OF_ORDER",
            )


class DynamicSink(VhdxSink):
    """Blocks at `_end` of the file, in order of first use; `_last` is the latest and `_count` their number."""

    _last = -1
    _count = 0

    def begin(self) -> None:
        self._plan.write(self._file)
        if self._plan.options.block_state_zero:
            self._bat.fill(0, ZERO)

    @property
    def _end(self) -> int:
        return self._plan.payload_offset + self._count * self._block

    def _allocate(self, offset: int, length: int) -> int:
        first, end = offset // self._block, -(-(offset + length) // self._block)
        place = self._end if first > self._last else self._end - self._block
        fresh = max(first, self._last + 1)
        if fresh < end:
            self._bat.place(fresh, end - fresh, self._end)
            self._count += end - fresh
            self._last = end - 1
            self._file.truncate(self._end)
        return place + offset - first * self._block

    def checkpoint(self) -> dict[str, Any]:
        return {**super().checkpoint(), "last": self._last, "count": self._count}

    def go_on(self, state: Mapping[str, Any]) -> None:
        blocks = self._plan.geometry.blocks
        self._last = resume_number(state, "last", blocks - 1, -1)
        self._count = resume_number(state, "count", self._last + 1)
        self._restore(state, self._end)
        written = self._end
        if self._last == self._next // self._block:  # the block that was being filled: drop what came later
            written += self._next % self._block - self._block
        self._file.truncate(written)
        self._file.truncate(self._end)
        self._bat.fill(self._last + 1, ZERO if self._plan.options.block_state_zero else NOT_PRESENT)


class FixedSink(VhdxSink):
    """Every block has its place from the start."""

    def begin(self) -> None:
        self._plan.write(self._file)
        self._bat.place(0, self._plan.geometry.blocks, self._plan.payload_offset)
        self._file.truncate(self._end)

    @property
    def _end(self) -> int:
        return self._plan.payload_offset + self._plan.geometry.blocks * self._block

    def _allocate(self, offset: int, length: int) -> int:  # noqa: ARG002 -- all of it is there
        return self._plan.payload_offset + offset

    def go_on(self, state: Mapping[str, Any]) -> None:
        self._restore(state, self._end)
        self._file.truncate(self._plan.payload_offset + self._next)
        self._file.truncate(self._end)


def resume_number(state: Mapping[str, Any], key: str, most: int, least: int = 0) -> int:
    """A number of a checkpoint. Raises InvalidArgument."""
    value = state.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"the checkpoint's {key}, {value!r}, is impossible", reason="RESUME_STATE_INVALID")
    return value

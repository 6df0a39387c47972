"""What both writers share: grains are appended in ascending order, one grain table at a time is in memory.

Where tables go, and how grains are stored, are the subclasses' affair (`sparse_sink`, `stream_sink`).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink
from hypersdk.errors import Aborted, FailedPrecondition, InvalidArgument, OutOfRange, ResourceExhausted

from hypersdk_format_vmdk.header import TABLE_ENTRIES
from hypersdk_format_vmdk.layout import MAX_DIRECTORY, SECTOR

GRAIN = 65536
"""Bytes of a grain in everything we write, as VMware and QEMU do."""

GRAIN_SECTORS = GRAIN // SECTOR
TABLE_BYTES = TABLE_ENTRIES * 4
TABLE_SECTORS = TABLE_BYTES // SECTOR
TABLE_SPAN = TABLE_ENTRIES * GRAIN
MAX_SIZE = MAX_DIRECTORY // 4 * TABLE_SPAN
_MAX_FILE = (1 << 32) * SECTOR


class GrainSink(BlockSink):
    """Created on an empty file or resumed; then grains are appended at `_position`, bytes, until `finish`."""

    def __init__(self, file: ImageFile, size: int) -> None:
        self._file = file
        self._size = size
        self._position = 0
        self._table = 0
        self._entries = np.zeros(TABLE_ENTRIES, dtype="<u4")
        self._dirty = False
        self._next = 0
        self._allocated = 0
        self._closed = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return GRAIN

    @abc.abstractmethod
    def _write_table(self, table: int, entries: np.ndarray) -> None:
        """Put a table that is complete for now into the file."""

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")

    def _check(self, offset: int, length: int) -> None:
        self._check_open()
        if offset < 0 or offset + length > self._size:
            raise OutOfRange(f"bytes {offset} to {offset + length} are not all in a disk of {self._size} bytes")
        if offset % GRAIN or (length % GRAIN and offset + length != self._size):
            raise InvalidArgument(
                f"bytes {offset} to {offset + length} are not whole grains of {GRAIN}", reason="WRITE_UNALIGNED"
            )
        if offset // GRAIN < self._next:
            raise FailedPrecondition(
                f"byte {offset} comes after byte {self._next * GRAIN}, but this image is written in ascending order",
                reason="WRITE_OUT_OF_ORDER",
            )

    def _room(self, length: int) -> None:
        """Positions are 32-bit sector numbers."""
        if self._position + length > _MAX_FILE:
            raise ResourceExhausted(
                f"{self._file.path.name}: a VMDK sparse file holds at most {_MAX_FILE} bytes; choose another format, "
                "or split the disk",
                reason="IMAGE_TOO_LARGE", retryable=False,
            )  # fmt: skip

    def _place(self, first: int, sectors: np.ndarray) -> None:
        """Grains from `first` on lie at `sectors`, all in one table."""
        table, index = divmod(first, TABLE_ENTRIES)
        self._enter(table)
        self._entries[index : index + len(sectors)] = sectors
        self._dirty = True
        self._next = first + len(sectors)
        self._allocated += int(np.count_nonzero(sectors))

    def _enter(self, table: int) -> None:
        if table != self._table:
            self._flush_table()
            self._table = table
            self._entries = np.zeros(TABLE_ENTRIES, dtype="<u4")

    def _flush_table(self) -> None:
        if self._dirty:
            self._write_table(self._table, self._entries)
            self._dirty = False

    def _facts(self, subformat: str) -> dict[str, Any]:
        """What `finish` returns."""
        return {
            "subformat": subformat,
            "virtual_size": self._size,
            "allocated_bytes": self._allocated * GRAIN,
            "file_size": self._file.size,
        }

    def abort(self) -> None:
        self._closed = True


def resume_number(state: Mapping[str, Any], key: str, most: int) -> int:
    """A number of a checkpoint. Raises InvalidArgument."""
    value = state.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise InvalidArgument(f"the checkpoint's {key}, {value!r}, is impossible", reason="RESUME_STATE_INVALID")
    return value


def resume_mismatch(file: ImageFile, what: str) -> Aborted:
    return Aborted(
        f"{file.path.name} cannot be continued: {what}; delete the partial file and start again",
        reason="RESUME_MISMATCH",
    )


def prepare_resume(file: ImageFile, state: Mapping[str, Any], subformat: str, size: int) -> int:
    """Check that `state` is of this file and cut off what was written after it. The position to go on from."""
    position = resume_number(state, "position", _MAX_FILE)
    if state.get("subformat") != subformat or state.get("size") != size:
        raise resume_mismatch(file, "the checkpoint is of another disk or subformat")
    if file.size < position:
        raise resume_mismatch(file, f"it has {file.size} bytes, fewer than the {position} of the checkpoint")
    file.truncate(position)
    return position

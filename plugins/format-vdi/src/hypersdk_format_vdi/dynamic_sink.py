"""Writes a dynamic VDI: header, block map, then blocks in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from hypersdk.data.appendsink import AppendSink, BlockTable
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import InvalidArgument

from hypersdk_format_vdi.header import HEADER_SECTOR_BYTES, Header, read_header
from hypersdk_format_vdi.layout import DATA_ALIGNMENT, SECTOR, TYPE_DYNAMIC, TYPE_STATIC


class DynamicSink(AppendSink):
    """`create`, with a checkpoint if there is one, then the life of a BlockSink."""

    def __init__(self, file: ImageFile, size: int, header: Header) -> None:
        table = BlockTable(file, header.map_offset, header.blocks, "<u4")
        super().__init__(file, size, table, block=header.block, lead=0, start=header.data_offset)
        self._header = header

    @classmethod
    def create(cls, file: ImageFile, size: int, block: int, state: Mapping[str, Any] | None) -> Self:
        if state is not None:
            sink = cls(file, size, header_to_resume(file, size, TYPE_DYNAMIC))
            sink.restore(state)
            return sink
        sink = cls(file, size, new_header(size, block, TYPE_DYNAMIC))
        file.pwrite(0, sink._header.pack())
        sink._table.clear()
        return sink

    def _entries(self, number: int, count: int) -> npt.NDArray[np.int64]:
        return np.arange(number, number + count, dtype=np.int64)

    def _surround(self, number: int, count: int) -> None:
        """Nothing leads a block."""

    def _seal(self, *, complete: bool) -> None:  # noqa: ARG002 -- the same for a checkpoint
        self._file.pwrite(0, replace(self._header, allocated=self._blocks).pack())


def new_header(size: int, block: int, kind: int) -> Header:
    """Sizes are rounded up to whole sectors."""
    size = -(-size // SECTOR) * SECTOR
    blocks = -(-size // block)
    data = -(-(HEADER_SECTOR_BYTES + blocks * 4) // DATA_ALIGNMENT) * DATA_ALIGNMENT
    allocated = blocks if kind == TYPE_STATIC else 0
    return Header(kind, size, block, blocks, allocated, HEADER_SECTOR_BYTES, data, uuid4(), uuid4())


def header_to_resume(file: ImageFile, size: int, kind: int) -> Header:
    """The header that a dead process left. Raises InvalidArgument (RESUME_STATE_INVALID)."""
    header = read_header(file)
    if header.kind != kind or header.size != -(-size // SECTOR) * SECTOR:
        raise InvalidArgument(
            f"cannot resume from this checkpoint: {file.path.name} is of another disk; start anew",
            reason="RESUME_STATE_INVALID",
        )
    return header

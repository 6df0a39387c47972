"""Writes a dynamic VHD: footer, header, table, then blocks in order of arrival, and the footer again.

The sector bitmap in front of each block is padded so that the data behind it starts at a multiple of 4 KiB, as Xen's
tools do; the table may point anywhere, and pages are then copied whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from hypersdk.data.appendsink import UNIT, AppendSink, BlockTable
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import InvalidArgument

from hypersdk_format_vpc.footer import Footer, new_footer, parse_footer
from hypersdk_format_vpc.geometry import Geometry
from hypersdk_format_vpc.header import DynamicHeader
from hypersdk_format_vpc.layout import EPOCH, FOOTER_BYTES, HEADER_BYTES, SECTOR, TYPE_DYNAMIC

TABLE_OFFSET = FOOTER_BYTES + HEADER_BYTES


class DynamicSink(AppendSink):
    """`create`, with a checkpoint if there is one, then the life of a BlockSink."""

    def __init__(self, file: ImageFile, size: int, footer: Footer, header: DynamicHeader) -> None:
        table = BlockTable(file, TABLE_OFFSET, header.entries, ">u4")
        super().__init__(
            file, size, table, block=header.block, lead=lead_bytes(header), start=start_of_blocks(header)
        )
        self._footer = footer
        self._bitmap = b"\xff" * (header.block // SECTOR // 8)
        self._bitmap_bytes = header.bitmap_bytes

    @classmethod
    def create(
        cls, file: ImageFile, size: int, capacity: int, geometry: Geometry, block: int,
        state: Mapping[str, Any] | None,
    ) -> Self:  # fmt: skip
        header = new_header(capacity, block)
        if state is not None:
            return cls._resume(file, size, capacity, header, state)
        footer = new_footer(
            TYPE_DYNAMIC, capacity, geometry, uuid=uuid4(), timestamp=int(time.time()) - EPOCH,
            data_offset=FOOTER_BYTES,
        )  # fmt: skip
        file.pwrite(0, footer.pack() + header.pack())
        sink = cls(file, size, footer, header)
        sink._table.clear()
        return sink

    @classmethod
    def _resume(
        cls, file: ImageFile, size: int, capacity: int, header: DynamicHeader, state: Mapping[str, Any]
    ) -> Self:
        footer = parse_footer(file.pread(0, FOOTER_BYTES, structure="footer copy"), file.path.name, 0)
        if footer.kind != TYPE_DYNAMIC or footer.current_size != capacity:
            raise InvalidArgument(
                f"cannot resume from this checkpoint: {file.path.name} is of another disk; start anew",
                reason="RESUME_STATE_INVALID",
            )
        sink = cls(file, size, footer, header)
        sink.restore(state)
        return sink

    def _entries(self, number: int, count: int) -> npt.NDArray[np.int64]:
        first = self._start + self._lead - self._bitmap_bytes
        stride = self._lead + self._block
        return (first + np.arange(number, number + count, dtype=np.int64) * stride) // SECTOR

    def _surround(self, number: int, count: int) -> None:
        """Bitmaps that say of every sector that it is stored, as QEMU's do: what was not written is a hole."""
        for entry in self._entries(number, count).tolist():
            self._file.pwrite(entry * SECTOR, self._bitmap)

    def _seal(self, *, complete: bool) -> None:
        if complete:
            self._file.pwrite(self._end, self._footer.pack())


def new_header(capacity: int, block: int) -> DynamicHeader:
    return DynamicHeader(TABLE_OFFSET, -(-capacity // block), block)


def lead_bytes(header: DynamicHeader) -> int:
    return -(-header.bitmap_bytes // UNIT) * UNIT


def start_of_blocks(header: DynamicHeader) -> int:
    return -(-(TABLE_OFFSET + header.entries * 4) // UNIT) * UNIT

"""Writes a static VDI: header, a block map in the disk's order, and the disk as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from hypersdk.data.flatsink import FlatSink, resume_flat
from hypersdk.data.imagefile import ImageFile

from hypersdk_format_vdi.dynamic_sink import header_to_resume, new_header
from hypersdk_format_vdi.header import Header
from hypersdk_format_vdi.layout import TYPE_STATIC

_WINDOW = 1 << 18


class StaticSink(FlatSink):
    """`create`, with a checkpoint if there is one, then the life of a BlockSink."""

    def __init__(self, file: ImageFile, size: int, header: Header, end: int = 0) -> None:
        super().__init__(file, size, start=header.data_offset, written_end=end)
        self._header = header

    @classmethod
    def create(cls, file: ImageFile, size: int, block: int, state: Mapping[str, Any] | None) -> Self:
        if state is not None:
            header = header_to_resume(file, size, TYPE_STATIC)
            sink = cls(file, size, header, resume_flat(file, state, size=size, start=header.data_offset))
        else:
            header = new_header(size, block, TYPE_STATIC)
            file.pwrite(0, header.pack())
            for first in range(0, header.blocks, _WINDOW):
                numbers = np.arange(first, min(header.blocks, first + _WINDOW), dtype="<u4")
                file.pwrite(header.map_offset + first * 4, numbers.tobytes())
            sink = cls(file, size, header)
        file.truncate(header.data_offset + header.blocks * header.block)
        return sink

    def _seal(self) -> None:
        """Nothing follows the disk."""

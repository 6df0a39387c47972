"""Writes entries of the block allocation table straight into the file: a block has at least a MiB, so 8 bytes for each
cost nothing, and no table is held in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile

from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import FULLY_PRESENT

_ENTRIES = 1 << 17
"""Entries written at once by `fill`: 1 MiB."""

_Blocks = npt.NDArray[np.int64]
_Entries = Callable[[_Blocks], _Blocks]


class BatWriter:
    """The table at `offset` of `file`. Entries of sector bitmaps stay 0: there is no parent."""

    def __init__(self, file: ImageFile, geometry: Geometry, offset: int) -> None:
        self._file = file
        self._geometry = geometry
        self._offset = offset

    def fill(self, first: int, state: int) -> None:
        """Blocks from `first` on have no place and this state."""
        self._write(first, self._geometry.blocks - first, lambda blocks: np.full(len(blocks), state, np.int64))

    def place(self, first: int, count: int, place: int) -> None:
        """Blocks [first, first+count) lie in the file one behind the other from byte `place` on."""
        block = self._geometry.block
        self._write(first, count, lambda blocks: (blocks - first) * block + (place | FULLY_PRESENT))

    def _write(self, first: int, count: int, entries: _Entries) -> None:
        ratio = self._geometry.chunk_ratio
        end = first + count
        while first < end:
            stop = min(end, first + _ENTRIES)
            blocks = np.arange(first, stop, dtype=np.int64)
            start = self._geometry.entry_of(first)
            raw = np.zeros(self._geometry.entry_of(stop - 1) + 1 - start, dtype="<i8")
            raw[blocks + blocks // ratio - start] = entries(blocks)
            self._file.pwrite(self._offset + 8 * start, raw.tobytes())
            first = stop

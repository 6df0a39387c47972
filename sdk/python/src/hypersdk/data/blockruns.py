"""Runs of a disk that is cut into blocks of one size, with a flat table that says where each lies in its file.

VHD (block allocation table) and VDI (block map) are of this kind. The format gives the table's entries as positions;
here they become long runs, with numpy, a window at a time, so memory does not depend on the disk's size. Nothing is
judged here: the loader has checked what it returns. (`unitmap` is for formats whose tables are judged page by page, or
whose units are coded.)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Entries = npt.NDArray[np.int64]
"""For each block the position of its data in the file, bytes, or ABSENT or ZEROED."""

ABSENT = -1
"""Not stored: the parent's bytes, zeros without a parent."""

ZEROED = -2
"""Zeros, whatever a parent holds."""

_WINDOW = 65536
"""Entries decoded at once: 512 KiB as 64-bit numbers."""


class RunKind(enum.IntEnum):
    """BELOW: the parent's bytes. ZERO: zeros. DATA: in this file."""

    BELOW = 0
    ZERO = 1
    DATA = 2


class Run(NamedTuple):
    """`length` bytes from `offset` of the disk in one state; DATA lies together at `position` of the file."""

    kind: RunKind
    offset: int
    length: int
    position: int = -1


class BlockRuns:
    """`load(first, count)` gives the entries of `count` blocks from number `first`. As thread-safe as `load`."""

    def __init__(self, load: Callable[[int, int], Entries], block: int) -> None:
        """`block`: bytes of a block."""
        self._load = load
        self._block = block

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        """Cover [offset, end). Neighbours of one kind are merged inside a window where the file allows it."""
        block = self._block
        while offset < end:
            first = offset // block
            count = min(_WINDOW, -(-end // block) - first)
            entries = self._load(first, count)
            following = np.where(entries[:-1] >= 0, entries[:-1] + block, entries[:-1])
            starts = [0, *(np.flatnonzero(entries[1:] != following) + 1).tolist()]
            for low, high, entry in zip(starts, [*starts[1:], count], entries[starts].tolist(), strict=True):
                stop = min(end, (first + high) * block)
                if entry >= 0:
                    yield Run(RunKind.DATA, offset, stop - offset, entry + offset - (first + low) * block)
                else:
                    yield Run(RunKind.BELOW if entry == ABSENT else RunKind.ZERO, offset, stop - offset)
                offset = stop

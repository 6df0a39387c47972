"""Consistency, without reading guest data: every entry of the block allocation table, places that two blocks share, and
space that nothing uses.

Memory: one byte for each MiB of the file, besides a window of the table. Nothing is repaired: blocks can only move by
writing the image anew.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage
from hypersdk.plugin import CheckReport

from hypersdk_format_vhdx.blockmap import U64
from hypersdk_format_vhdx.layout import (
    BITMAP_BLOCK_BYTES,
    FULLY_PRESENT,
    HEADER_SECTION_BYTES,
    MIB,
    OFFSET_MASK,
    PARTIALLY_PRESENT,
    STATE_MASK,
)
from hypersdk_format_vhdx.opening import Layer, load

_MAX_MESSAGES = 100
_MAX_FILE = 1 << 47
"""Bytes of file that are checked: 128 TiB, for which the map has 128 MiB. A disk cannot need more than half of it."""

_SLICE = 512
"""Blocks looked at together: at most 256 MiB each, so 2^17 MiB."""


def check_image(file: ImageFile, *, repair: bool) -> CheckReport:
    """An image that cannot even be opened raises, as `open` does; the parent of a differencing disk is not looked at,
    and a log is checked as replayed."""
    layer = load(file)
    if layer.file.size > _MAX_FILE:
        raise MalformedImage(
            f"{layer.file.name} has {layer.file.size} bytes; no VHDX needs more than {_MAX_FILE}", structure="file"
        )
    return _Check(layer).run(repair=repair)


class _Check:
    """One check of one image."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._geometry = layer.metadata.geometry
        self._used = np.zeros(-(-layer.file.size // MIB), np.bool_)
        self._corruptions = 0
        self._messages: list[str] = []
        self._allocated = 0
        self._first_place: int | None = None

    def run(self, *, repair: bool) -> CheckReport:
        layer = self._layer
        log = layer.headers.current
        for start, end in (
            (0, HEADER_SECTION_BYTES), (log.log_offset, log.log_offset + log.log_length),
            *((region.offset, region.end) for region in layer.regions.all),
        ):  # fmt: skip
            self._used[start // MIB : -(-end // MIB)] = True
        self._note_copies()
        needed: set[int] = set()
        for first, raw in layer.blocks.windows():
            self._window(first, raw)
            partial = np.flatnonzero((raw & np.uint64(STATE_MASK)) == PARTIALLY_PRESENT) + first
            needed |= set(np.unique(partial // self._geometry.chunk_ratio).tolist())
        if self._geometry.has_parent:
            for chunk in range(self._geometry.chunks):
                if chunk in needed or layer.blocks.has_bitmap(chunk):
                    self._bitmap(chunk)
        leaked = self._unused_bytes()
        leaks = -(-leaked // self._geometry.block)
        if leaks:
            self._say(f"{leaked} bytes of the file are used by nothing")
        if leaks and repair:
            self._say("leaks in a VHDX are not mended in place; convert the image to reclaim them")
        return CheckReport(
            corruptions=self._corruptions,
            leaks=leaks,
            allocated_units=self._allocated,
            total_units=self._geometry.blocks,
            messages=tuple(self._messages),
            details={"leaked_bytes": leaked, "log_entries_replayed": layer.log_entries},
        )

    def _unused_bytes(self) -> int:
        """From the first block on. What lies before it is room that writers leave between the structures."""
        if self._first_place is None:
            return 0
        used = self._used[self._first_place // MIB :]
        return int(len(used) - np.count_nonzero(used)) * MIB

    def _note_copies(self) -> None:
        """One sound copy is enough to read by; the next crash may need the other."""
        for what, valid in (("header", self._layer.headers.valid), ("region table", self._layer.regions.valid)):
            for number, good in enumerate(valid, 1):
                if not good:
                    self._say(f"copy {number} of the {what} is damaged; the other was used")

    def _window(self, first: int, raw: U64) -> None:
        bad, fault = self._layer.blocks.judge(first, raw)
        if fault:
            number = first + int(np.argmax(bad))
            self._corrupt(f"the BAT entry of block {number} has {fault}", int(np.count_nonzero(bad)))
        states = raw & np.uint64(STATE_MASK)
        places = (raw & np.uint64(OFFSET_MASK)).astype(np.int64)
        present = ~bad & ((states == FULLY_PRESENT) | (states == PARTIALLY_PRESENT))
        self._allocated += int(np.count_nonzero(present))
        self._take(np.flatnonzero(present) + first, places[present])
        # Blocks that were trimmed may keep their place (2.5.1.1): no leak, and no harm where it is another's by now.
        kept = ~bad & ~present & (places > 0) & (places <= self._layer.file.size - self._geometry.block)
        for place in places[kept].tolist():
            self._used[place // MIB : (place + self._geometry.block) // MIB] = True

    def _take(self, numbers: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> None:
        units = np.arange(self._geometry.block // MIB)
        order = np.argsort(places, kind="stable")
        numbers, places = numbers[order], places[order]
        if len(places):
            first = int(places[0])
            self._first_place = first if self._first_place is None else min(first, self._first_place)
        shared = places[1:] - places[:-1] < self._geometry.block
        clashes = int(np.count_nonzero(shared))
        where = numbers[1:][shared]
        for at in range(0, len(places), _SLICE):
            touched = np.minimum(places[at : at + _SLICE, None] // MIB + units, len(self._used) - 1)
            taken = self._used[touched].any(axis=1)
            taken[1:] &= ~shared[at : at + len(taken) - 1]
            clashes += int(np.count_nonzero(taken))
            where = np.concatenate([where, numbers[at : at + _SLICE][taken]])
            self._used[touched] = True
        if clashes:
            self._corrupt(f"block {int(where.min())} lies where another block does", clashes)

    def _bitmap(self, chunk: int) -> None:
        try:
            place = self._layer.blocks.bitmap_place(chunk)
        except MalformedImage as exc:
            self._corrupt(exc.message)
            return
        unit = place // MIB
        if self._used[unit : unit + BITMAP_BLOCK_BYTES // MIB].any():
            self._corrupt(f"sector bitmap {chunk} lies where a block does")
        self._used[unit : unit + BITMAP_BLOCK_BYTES // MIB] = True

    def _corrupt(self, message: str, count: int = 1) -> None:
        self._corruptions += count
        self._say(message)

    def _say(self, message: str) -> None:
        if len(self._messages) < _MAX_MESSAGES:
            self._messages.append(f"{self._layer.file.name}: {message}")

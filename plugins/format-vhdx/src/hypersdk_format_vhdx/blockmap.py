"""BlockMap: from guest addresses to places in the file, by the block allocation table (2.5).

The table is read lazily in windows of 8,192 payload blocks, and stretches of it that are holes of the file are passed
over unread; so memory is the same for every disk and work grows with what is stored. Entries are judged when they are
decoded: reserved bits and states, places inside the file and outside of everything that is not payload. Whether two
blocks share a place only `check` looks at.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypersdk.data.extent import ExtentKind
from hypersdk.data.sparse import file_extents
from hypersdk.errors import MalformedImage

from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import (
    BITMAP_BLOCK_BYTES,
    FULLY_PRESENT,
    HEADER_SECTION_BYTES,
    NOT_PRESENT,
    OFFSET_MASK,
    PARTIALLY_PRESENT,
    RESERVED_MASK,
    STATE_MASK,
    ZERO,
)
from hypersdk_format_vhdx.replay import ReplayedFile

WINDOW = 8192
"""Payload blocks decoded at once: 64 KiB of the table."""

_CACHED_WINDOWS = 32
"""72 KiB each."""

U64 = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class Run(NamedTuple):
    """`length` guest bytes from `offset` in one state: NOT_PRESENT, ZERO, FULLY_PRESENT, or PARTIALLY_PRESENT, then
    inside one block. `place`: where a present run lies in the file."""

    kind: int
    offset: int
    length: int
    place: int


class BlockMap:
    """The table at `offset` of the file. `areas`: (start, end) of whatever is no payload. Thread-safe."""

    def __init__(
        self, file: ReplayedFile, geometry: Geometry, offset: int, areas: Sequence[tuple[int, int]]
    ) -> None:
        self._file = file
        self._geometry = geometry
        self._offset = offset
        self._areas = [(0, HEADER_SECTION_BYTES), *areas]
        self._cache: OrderedDict[int, tuple[Kinds, Places]] = OrderedDict()
        self._lock = threading.Lock()

    def runs(self, offset: int, length: int) -> Iterator[Run]:
        """What covers [offset, offset+length), in order; present runs as long as they lie together in the file.
        Raises MalformedImage."""
        block = self._geometry.block
        at, end = offset, offset + length
        while at < end:
            window = at // (WINDOW * block)
            kinds, places, beyond = self._load(window)
            stop = min(end, beyond * WINDOW * block)
            if kinds is None or places is None:
                yield Run(NOT_PRESENT, at, stop - at, 0)
            else:
                base = window * WINDOW * block
                low, high = (at - base) // block, -(-(stop - base) // block)
                yield from self._join(at, stop, kinds[low:high], places[low:high])
            at = stop

    def _join(self, start: int, end: int, kinds: Kinds, places: Places) -> Iterator[Run]:
        """Neighbouring blocks of one kind as one run; stored ones where one lies behind the other."""
        block = self._geometry.block
        same = kinds[1:] == kinds[:-1]
        plain = kinds[:-1] == FULLY_PRESENT
        joined = same & np.where(plain, places[1:] == places[:-1] + block, kinds[:-1] != PARTIALLY_PRESENT)
        first = np.concatenate(([0], np.flatnonzero(~joined) + 1))
        after = np.append(first[1:], len(kinds))
        base = start - start % block
        for low, high, kind, place in zip(
            first.tolist(), after.tolist(), kinds[first].tolist(), places[first].tolist(), strict=True
        ):
            begin, stop = max(start, base + low * block), min(end, base + high * block)
            yield Run(kind, begin, stop - begin, place + begin - (base + low * block))

    def windows(self) -> Iterator[tuple[int, U64]]:
        """First block and raw payload entries of every window that may hold something; for `check`."""
        window = 0
        while window * WINDOW < self._geometry.blocks:
            used = self._first_used(window)
            if used * WINDOW < self._geometry.blocks:
                yield used * WINDOW, self._raw(used)
            window = used + 1

    def judge(self, first: int, raw: U64) -> tuple[npt.NDArray[np.bool_], str]:
        """Which of the payload entries `raw`, of blocks from `first` on, are impossible, and the first one's fault."""
        geometry = self._geometry
        states = raw & np.uint64(STATE_MASK)
        present = (states == FULLY_PRESENT) | (states == PARTIALLY_PRESENT)
        places = (raw & np.uint64(OFFSET_MASK)).astype(np.int64)
        needed = np.minimum(geometry.block, geometry.size - np.arange(first, first + len(raw)) * geometry.block)
        wrong = (states == 4) | (states == 5)
        if not geometry.has_parent:
            wrong |= states == PARTIALLY_PRESENT
        reserved = (raw & np.uint64(RESERVED_MASK)) != 0
        outside = present & ((places < 0) | (places > self._file.size - needed))
        inside = np.zeros(len(raw), np.bool_)
        for start, end in self._areas:
            inside |= present & (places < end) & (places > start - geometry.block)
        bad = wrong | reserved | outside | inside
        if not bad.any():
            return bad, ""
        at = int(np.argmax(bad))
        if wrong[at]:
            return bad, f"state {int(states[at])}, which it cannot have"
        if reserved[at]:
            return bad, "reserved bits set"
        if outside[at]:
            return bad, f"its place at offset {int(places[at])}, where the file of {self._file.size} bytes ends"
        return bad, f"its place at offset {int(places[at])}, inside what is no payload"

    def has_bitmap(self, chunk: int) -> bool:
        """Does the table claim anything of the chunk's sector bitmap block?"""
        return self._bitmap_entry(chunk)[1] != 0

    def bitmap_place(self, chunk: int) -> int:
        """Where the sector bitmap block of a chunk lies in the file. Raises MalformedImage when there is none."""
        where, raw = self._bitmap_entry(chunk)
        structure = f"BAT entry of sector bitmap {chunk}"
        place = raw & OFFSET_MASK
        fault = ""
        if raw & STATE_MASK != FULLY_PRESENT or raw & RESERVED_MASK:
            fault = f"is 0x{raw:x}, which is no bitmap that is present"
        elif place + BITMAP_BLOCK_BYTES > self._file.size:
            fault = f"names offset {place}, where the file of {self._file.size} bytes ends"
        elif any(place < end and place + BITMAP_BLOCK_BYTES > start for start, end in self._areas):
            fault = f"names offset {place}, inside other structures"
        if fault:
            raise MalformedImage(f"{self._file.name}: the {structure} {fault}", structure=structure, offset=where)
        return place

    def _bitmap_entry(self, chunk: int) -> tuple[int, int]:
        """Where the entry lies in the file, and what it holds."""
        where = self._offset + 8 * self._geometry.bitmap_entry_of(chunk)
        return where, int.from_bytes(self._file.pread(where, 8, structure="BAT"), "little")

    def _load(self, window: int) -> tuple[Kinds | None, Places | None, int]:
        """Decoded entries of the window, or None for a stretch without any; and the window behind it."""
        with self._lock:
            held = self._cache.get(window)
            if held is not None:
                self._cache.move_to_end(window)
                return (*held, window + 1)
        used = self._first_used(window)
        if used > window:
            return None, None, used
        kinds, places = self._decode(window)
        with self._lock:
            self._cache[window] = (kinds, places)
            while len(self._cache) > _CACHED_WINDOWS:
                self._cache.popitem(last=False)
        return kinds, places, window + 1

    def _decode(self, window: int) -> tuple[Kinds, Places]:
        first = window * WINDOW
        raw = self._raw(window)
        bad, fault = self.judge(first, raw)
        if fault:
            block = first + int(np.argmax(bad))
            raise MalformedImage(
                f"{self._file.name}: the BAT entry of block {block} has {fault}",
                structure=f"BAT entry of block {block}", offset=self._offset + 8 * self._geometry.entry_of(block),
            )  # fmt: skip
        states = (raw & np.uint64(STATE_MASK)).astype(np.uint8)
        present = states >= FULLY_PRESENT
        # UNDEFINED and UNMAPPED may read as anything (2.5.1.1); zeros are what QEMU and we choose.
        kinds = np.where(present | (states == NOT_PRESENT), states, np.uint8(ZERO))
        return kinds, np.where(present, raw & np.uint64(OFFSET_MASK), np.uint64(0)).astype(np.int64)

    def _raw(self, window: int) -> U64:
        first = window * WINDOW
        last = min(first + WINDOW, self._geometry.blocks) - 1
        begin = self._geometry.entry_of(first)
        count = self._geometry.entry_of(last) + 1 - begin
        data = self._file.pread(self._offset + 8 * begin, 8 * count, structure="BAT")
        blocks = np.arange(first, last + 1)
        chosen = np.frombuffer(data, dtype="<u8")[blocks + blocks // self._geometry.chunk_ratio - begin]
        return np.asarray(chosen, np.uint64)

    def _first_used(self, window: int) -> int:
        """The first window from this one on whose part of the table is not just a hole of the file."""
        file, geometry = self._file, self._geometry
        at = self._offset + 8 * geometry.entry_of(window * WINDOW)
        plain = file.plain_until(at, self._offset + 8 * geometry.entries)
        extent = next(file_extents(file.file.fileno(), file.file.base + at, file.file.base + plain), None)
        if extent is None or extent.kind is ExtentKind.DATA:
            return window
        entry = (extent.end - file.file.base - self._offset) // 8
        if entry >= geometry.entries:
            return -(-geometry.blocks // WINDOW)
        return max(window, entry * geometry.chunk_ratio // (geometry.chunk_ratio + 1) // WINDOW)

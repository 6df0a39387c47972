"""Unit maps: where the units (clusters, blocks, chunks) of an image lie, as numpy arrays, a page at a time.

A format says how its table entries decode; here they become `Units`, are judged against the file before anybody
uses them, and are cached. Reading the units themselves is `unitsource`'s work, tables of tables are `twolevel`'s.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

HOLE, ZERO, PLAIN, CODED = 0, 1, 2, 3
"""Kinds of a unit: not stored (the backing disk's, else zeros), zeros, stored as it is, and from CODED on encoded:
kind CODED + n is for the n-th decoder."""

PAGE_UNITS = 8192
_CACHED_PAGES = 16
"""At most 25 bytes a unit: below 4 MiB."""


class Units(NamedTuple):
    """Units one behind the other.

    edges   where each begins in the disk, bytes, and where the last ends: one more than there are units, ascending
    kinds   HOLE …
    places  file offset of PLAIN and CODED units, bytes; 0 for the others
    stored  bytes in the file of CODED units, or None where none is coded
    """

    edges: I64
    kinds: U8
    places: U64
    stored: U64 | None = None


class Entries(NamedTuple):
    """Decoded table entries: `Units` of equal size, without their edges."""

    kinds: U8
    places: U64
    stored: U64 | None = None


class UnitMap(Protocol):
    """Thread-safe."""

    def pages(self, offset: int, end: int) -> Iterator[Units]:
        """Judged units in order that cover [offset, end) of the disk, and may reach beyond on both sides. Raises
        MalformedImage."""


class Bounds(NamedTuple):
    """What units are judged by.

    file      must hold them
    size      of the disk, bytes: what the last unit has beyond it need not be in the file
    floor     offset before which only metadata lies, bytes
    unit      the format's word for a unit, for messages
    """

    file: ImageFile
    size: int
    floor: int
    unit: str = "cluster"

    def judge(self, units: Units) -> None:
        """Raises MalformedImage for the first unit that begins in metadata, and with IMAGE_TRUNCATED for one that
        is not all in the file."""
        held = np.uint64(self.file.size)
        need = (np.minimum(units.edges[1:], self.size) - units.edges[:-1]).astype(np.uint64)
        if units.stored is not None:
            need = np.where(units.kinds >= CODED, units.stored, need)
        beyond = (units.places > held) | (need > held - units.places)
        early = units.places < np.uint64(self.floor)
        bad = np.flatnonzero((units.kinds >= PLAIN) & (beyond | early))
        if not len(bad):
            return
        at = int(bad[0])
        place, start = int(units.places[at]), int(units.edges[at])
        fault = "begins within the metadata" if early[at] else f"needs {int(need[at])} bytes; the file has {int(held)}"
        raise MalformedImage(
            f"{self.file.path.name}: the {self.unit} of disk offset {start} lies at offset {place} and {fault}",
            structure=f"table entry of the {self.unit} at disk offset {start}", offset=place,
            reason="IMAGE_MALFORMED" if early[at] else "IMAGE_TRUNCATED",
        )  # fmt: skip


class WholeMap:
    """Units of any sizes, all in memory: for tables that are small or not regular."""

    def __init__(self, units: Units, bounds: Bounds) -> None:
        bounds.judge(units)
        self._units = units

    def pages(self, offset: int, end: int) -> Iterator[Units]:
        if offset < end:
            yield self._units


class PagedMap:
    """Units of equal size, decoded PAGE_UNITS at most at a time and kept for a while, so that memory does not grow
    with the disk."""

    def __init__(
        self,
        bounds: Bounds,
        unit: int,
        load: Callable[[int, int], Entries],
        *,
        page_units: int = PAGE_UNITS,
        tables: I64 | None = None,
        table_units: int = 0,
    ) -> None:
        """unit         bytes
        load         (first, count) → the entries of these units; thread-safe; raises MalformedImage
        tables       which tables of `table_units` each exist, ascending; None: all do. Where none is are HOLEs, at
                     no cost
        page_units   must divide `table_units`
        """
        self._bounds = bounds
        self._unit = unit
        self._count = -(-bounds.size // unit)
        self._load = load
        self._page_units = min(page_units, table_units) if tables is not None else page_units
        self._tables = tables
        self._table_bytes = table_units * unit
        self._cache: OrderedDict[int, Units] = OrderedDict()
        self._lock = threading.Lock()

    def pages(self, offset: int, end: int) -> Iterator[Units]:
        page_bytes = self._page_units * self._unit
        while offset < end:
            start = self._next_table(offset)
            if start > offset:
                stop = min(start, end)
                yield _hole(offset, stop)
            else:
                page = offset // page_bytes
                stop = (page + 1) * page_bytes
                yield self._page(page)
            offset = stop

    def _next_table(self, offset: int) -> int:
        """The first byte from `offset` on that a table describes, or the end of the disk."""
        if self._tables is None:
            return offset
        table = offset // self._table_bytes
        at = int(np.searchsorted(self._tables, table))
        if at == len(self._tables):
            return self._bounds.size
        return max(offset, int(self._tables[at]) * self._table_bytes)

    def _page(self, number: int) -> Units:
        with self._lock:
            units = self._cache.get(number)
            if units is not None:
                self._cache.move_to_end(number)
                return units
        first = number * self._page_units
        entries = self._load(first, min(self._page_units, self._count - first))
        edges = np.arange(first, first + len(entries.kinds) + 1, dtype=np.int64) * self._unit
        units = Units(edges, *entries)
        self._bounds.judge(units)
        with self._lock:
            self._cache[number] = units
            while len(self._cache) > _CACHED_PAGES:
                self._cache.popitem(last=False)
        return units


def _hole(start: int, end: int) -> Units:
    return Units(np.array([start, end], np.int64), np.zeros(1, np.uint8), np.zeros(1, np.uint64))

"""Extents: which bytes of a virtual disk hold data and which read as zeros.

All offsets and lengths are bytes in the virtual disk's own address space.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class ExtentKind(enum.IntEnum):
    """DATA must be read; ZERO reads as zeros and need not be."""

    ZERO = 0
    DATA = 1


class Extent(NamedTuple):
    """`length` bytes from `offset` are all of one `kind`.

    offset  bytes, >= 0
    length  bytes, > 0; offset + length <= the disk's size
    """

    offset: int
    length: int
    kind: ExtentKind

    @property
    def end(self) -> int:
        return self.offset + self.length


class FileRange(NamedTuple):
    """`length` bytes of a virtual disk that lie as they are in an open plain file, so the operating system can
    copy them (copy_file_range, sendfile) without our touching them.

    fd           an open, readable descriptor; it stays the source's and must not be closed by the user
    file_offset  where the run starts in that file, bytes
    length       bytes, > 0
    """

    fd: int
    file_offset: int
    length: int


def coalesce(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Neighbours of one kind become one extent. Input must be in order and without gaps or overlaps."""
    held: Extent | None = None
    for extent in extents:
        if held is not None and held.kind == extent.kind and held.end == extent.offset:
            held = Extent(held.offset, held.length + extent.length, held.kind)
            continue
        if held is not None:
            yield held
        held = extent
    if held is not None:
        yield held


def clip(extents: Iterable[Extent], start: int, end: int) -> Iterator[Extent]:
    """The parts of `extents` inside [start, end)."""
    for extent in extents:
        low, high = max(extent.offset, start), min(extent.end, end)
        if low < high:
            yield Extent(low, high - low, extent.kind)

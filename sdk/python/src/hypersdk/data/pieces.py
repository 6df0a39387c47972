"""Pieces: a disk's extents cut into the units of work of one copy.

Widens DATA to whole allocation units of the sink, cuts it at multiples of the piece size so that pieces
start where the source's own units do, and leaves runs of zeros whole, however long. Pure: no I/O but what
the extents' iterator does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hypersdk.data.extent import Extent, ExtentKind


class PieceKind(enum.IntEnum):
    """ZERO: reads as zeros. DATA: the source called all of it data. MIXED: data with zeros around it inside
    one unit of the sink, which therefore has to pass through memory."""

    ZERO = 0
    DATA = 1
    MIXED = 2


class Piece(NamedTuple):
    """[offset, offset+length) in bytes. ZERO pieces may be of any length, the others are at most one piece
    long."""

    offset: int
    length: int
    kind: PieceKind

    @property
    def end(self) -> int:
        return self.offset + self.length


def plan(extents: Iterable[Extent], size: int, *, unit: int, piece_bytes: int) -> Iterator[Piece]:
    """Pieces in ascending order that cover what `extents` cover. Every piece starts at a multiple of `unit`
    (the sink's granularity) if the first extent does, and ends at one or at `size`. `piece_bytes` is a
    multiple of `unit`."""
    for start, end, kind in _spans(extents, size, unit):
        if kind == PieceKind.ZERO:
            yield Piece(start, end - start, kind)
            continue
        at = start
        while at < end:
            cut = min(end, at - at % piece_bytes + piece_bytes)
            yield Piece(at, cut - at, kind)
            at = cut


def _spans(extents: Iterable[Extent], size: int, unit: int) -> Iterator[tuple[int, int, PieceKind]]:
    """Spans aligned to `unit`, neighbours of one kind merged. DATA that is not aligned gives its first and
    last units to MIXED spans; the widening takes those bytes from the zeros beside it."""
    start = end = -1
    kind = PieceKind.ZERO
    for low, high, next_kind in _aligned(extents, size, unit):
        if low >= high:
            continue
        if start >= 0 and next_kind == kind:
            end = high
            continue
        if start >= 0:
            yield start, end, kind
        start, end, kind = low, high, next_kind
    if start >= 0:
        yield start, end, kind


def _aligned(extents: Iterable[Extent], size: int, unit: int) -> Iterator[tuple[int, int, PieceKind]]:
    covered = -1  # everything below is planned; may lie inside the current extent, or past a short one
    for extent in extents:
        if covered < 0:
            covered = extent.offset
        end = extent.end
        if extent.kind == ExtentKind.ZERO:
            last = end if end == size else end - end % unit
            if last > covered:
                yield covered, last, PieceKind.ZERO
                covered = last
            continue
        inner = max(covered, -(-extent.offset // unit) * unit)
        # `covered` < inner: the unit that the data starts in is begun by zeros
        yield covered, min(inner, size), PieceKind.MIXED
        covered = max(covered, min(inner, size))
        last = end if end == size else end - end % unit
        if last > covered:
            yield covered, last, PieceKind.DATA
            covered = last
        if end > covered:  # a part of a unit is left: whatever follows shares it
            tail = min(size, covered + unit)
            yield covered, tail, PieceKind.MIXED
            covered = tail

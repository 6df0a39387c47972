"""Consistency of sparse extents, without reading guest data: positions, overlaps, copies of tables, markers, leaks.

Memory grows with the data the image holds (8 bytes a grain), not with its virtual size. Nothing is repaired: grains can
only move by writing the image anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage
from hypersdk.plugin import CheckReport

from hypersdk_format_vmdk.extents import SparseExtent
from hypersdk_format_vmdk.geometry import Entries
from hypersdk_format_vmdk.grains import marker_length
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.markers import MARKER_HEAD
from hypersdk_format_vmdk.opening import open_for_check
from hypersdk_format_vmdk.tables import GrainTables, Piece

_MAX_MESSAGES = 100


class _Findings:
    """Counts, and the first messages."""

    def __init__(self) -> None:
        self.corruptions = 0
        self.leaks = 0
        self.allocated = 0
        self.total = 0
        self.messages: list[str] = []

    def corrupt(self, message: str, count: int = 1) -> None:
        self.corruptions += count
        self.say(message)

    def say(self, message: str) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(message)


def check_image(file: ImageFile, *, repair: bool) -> CheckReport:
    """An image that cannot even be opened raises, as `open` does; the parent of a delta is not looked at."""
    found = _Findings()
    for extent in open_for_check(file):
        if isinstance(extent, SparseExtent):
            _check_extent(extent, found)
    if repair and found.leaks:
        found.say("leaks in a VMDK are not mended in place; convert the image to reclaim them")
    return CheckReport(
        corruptions=found.corruptions,
        leaks=found.leaks,
        allocated_units=found.allocated,
        total_units=found.total,
        messages=tuple(found.messages),
    )


def _check_extent(extent: SparseExtent, found: _Findings) -> None:
    tables = extent.tables
    geometry = tables.geometry
    found.total += geometry.grains
    if tables.by_redundant:
        found.corrupt(f"{tables.file.path.name}: the grain directory is impossible; its copy was used")
    grains, positions = _positions(tables, found)
    found.allocated += len(positions)
    order = np.argsort(positions, kind="stable")
    grains, positions = grains[order], positions[order]
    lengths = _lengths(tables, grains, positions, found)
    ends = positions + lengths
    overlaps = np.flatnonzero(ends[:-1] > positions[1:])
    if len(overlaps):
        first = int(overlaps[0])
        found.corrupt(
            f"{tables.file.path.name}: grains {grains[first]} and {grains[first + 1]} overlap at offset "
            f"{positions[first + 1]}", len(overlaps),
        )  # fmt: skip
    if not geometry.compressed:
        leaks = _leaks(tables, positions)
        if leaks:
            found.leaks += leaks
            found.say(f"{tables.file.path.name}: nothing uses the space of {leaks} grains")
    _check_redundant(tables, found)


def _leaks(tables: GrainTables, positions: Entries) -> int:
    """Grains that would fit where no entry points, of the ascending `positions` of an extent that is not compressed.
    Before the first grain and behind the last one are looked at only where the format has nothing else there."""
    geometry = tables.geometry
    if geometry.data_start:
        start, end = geometry.data_start, tables.size
    elif len(positions):
        start, end = int(positions[0]), int(positions[-1]) + geometry.grain
    else:
        return 0
    used = len(np.unique(positions[positions >= start]))
    return max(0, (end - start) // geometry.grain - used)


def _positions(tables: GrainTables, found: _Findings) -> tuple[Entries, Entries]:
    """Numbers and positions of all allocated grains. Tables with impossible entries are counted and left out."""
    numbers: list[Entries] = []
    positions: list[Entries] = []
    for first, entries in _table_by_table(tables, found):
        index = np.flatnonzero(entries > 0)
        numbers.append(index + first)
        positions.append(entries[index])
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *numbers]), np.concatenate([empty, *positions])


def _table_by_table(tables: GrainTables, found: _Findings) -> Iterator[tuple[int, Entries]]:
    """Scan whole ranges, and one table after the other only where a range holds a fault."""
    grains, span = tables.geometry.grains, tables.geometry.entries
    at = 0
    while at < grains:
        try:
            for first, count, entries, _mark in tables.scan(at, grains - at):
                if entries is not None:
                    yield first, entries
                at = first + count
        except MalformedImage as exc:
            found.corrupt(exc.message)
            at = _after_fault(tables, at, span, exc)


def _after_fault(tables: GrainTables, at: int, span: int, fault: MalformedImage) -> int:
    """Where to go on: after the table in which the fault lies, found by its offset, else after the next one."""
    if fault.offset is not None:
        first = at // span
        for chunk in range(first, tables.geometry.tables, 65536):
            offsets = tables.directory(chunk, min(65536, tables.geometry.tables - chunk))
            inside = (offsets > 0) & (offsets <= fault.offset) & (fault.offset < offsets + tables.geometry.table_bytes)
            hit = np.flatnonzero(inside)
            if len(hit):
                return (chunk + int(hit[0]) + 1) * span
    return (at // span + 1) * span


def _lengths(tables: GrainTables, grains: Entries, positions: Entries, found: _Findings) -> Entries:
    """Bytes that each grain takes in the file; of compressed ones by their markers."""
    geometry = tables.geometry
    if not geometry.compressed:
        return np.full(len(positions), geometry.grain, dtype=np.int64)
    lengths = np.full(len(positions), SECTOR, dtype=np.int64)
    for index, (grain, position) in enumerate(zip(grains.tolist(), positions.tolist(), strict=True)):
        try:
            marker = memoryview(tables.file.pread(position, MARKER_HEAD, structure="grain marker"))
            size = marker_length(
                marker, 0, lba=grain * (geometry.grain // SECTOR), grain=geometry.grain, where=position,
                name=tables.file.path.name,
            )  # fmt: skip
            if position + MARKER_HEAD + size > tables.size:
                raise MalformedImage(
                    f"{tables.file.path.name}: the grain at offset {position} is cut short by the end of the file",
                    structure="compressed grain", offset=position, reason="IMAGE_TRUNCATED",
                )  # fmt: skip
            lengths[index] = MARKER_HEAD + size
        except HyperError as exc:
            found.corrupt(exc.message)
    return lengths


def _check_redundant(tables: GrainTables, found: _Findings) -> None:
    """Both copies of the tables must say the same."""
    geometry = tables.geometry
    if not geometry.redundant_offset or tables.by_redundant:
        return
    name = tables.file.path.name
    try:
        other = GrainTables(tables.file, geometry, redundant=True)
        differing = _differences(tables.scan(0, geometry.grains), other.scan(0, geometry.grains))
    except MalformedImage as exc:
        found.corrupt(exc.message)
        return
    if differing:
        found.corrupt(f"{name}: {differing} entries of the redundant grain tables differ", differing)


def _differences(left: Iterator[Piece], right: Iterator[Piece]) -> int:
    """Entries that differ, walking both scans in step; they cover the same grains in pieces of different sizes."""
    differing = 0
    one, two = next(left, None), next(right, None)
    at = 0
    while one is not None and two is not None:
        stop = min(one[0] + one[1], two[0] + two[1])
        if one[2] is None and two[2] is None:
            differing += stop - at if one[3] != two[3] else 0
        else:
            differing += int(np.count_nonzero(_values(one, at, stop) != _values(two, at, stop)))
        at = stop
        if at == one[0] + one[1]:
            one = next(left, None)
        if at == two[0] + two[1]:
            two = next(right, None)
    return differing


def _values(piece: Piece, low: int, high: int) -> Entries:
    first, _count, entries, mark = piece
    if entries is None:
        return np.full(high - low, mark, dtype=np.int64)
    return entries[low - first : high - first]

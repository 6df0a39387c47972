"""UnitSource: a unit map over a file, with decoders and perhaps a backing disk, as one BlockSource.

The reading half that formats of the shape "table of units" have in common. Where units lie is `unitmap`'s, how
they decode `unitcodecs`', who may be a backing disk `layers`'.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hypersdk.data.extent import Extent, ExtentKind, FileRange, coalesce
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.data.unitcodecs import DecodeError, Decoder
from hypersdk.data.unitmap import CODED, HOLE, PLAIN, UnitMap
from hypersdk.errors import FailedPrecondition, MalformedImage, OutOfRange

_CACHE_BYTES = 4 << 20
"""Decoded units kept for reads smaller than a unit; one is kept however large."""
_ZEROS = bytes(1 << 20)


class Run(NamedTuple):
    """`length` bytes of disk from `offset`, of one kind, one behind the other in the file. A coded run is inside
    one unit, which begins at `unit_offset` and decodes to `unit_length` bytes."""

    kind: int
    offset: int
    length: int
    place: int
    stored: int
    unit_offset: int
    unit_length: int


class UnitSource(BlockSource):
    """Life: made by `layers.open_layers` with its tables judged; read by any threads; closed with its backing."""

    def __init__(
        self,
        file: ImageFile,
        units: UnitMap,
        *,
        size: int,
        granularity: int,
        info: Mapping[str, Any],
        decoders: Sequence[Decoder] = (),
        backing: BlockSource | None = None,
        refusal: FailedPrecondition | None = None,
    ) -> None:
        """`decoders[n]` is for units of kind CODED + n. `refusal` is raised by every access to data: `info` alone
        works then."""
        self._file = file
        self._units = units
        self._size = size
        self._granularity = granularity
        self._info = info
        self._decoders = tuple(decoders)
        self._backing = backing
        self._refusal = refusal
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return self._granularity

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = max(offset, self._size) if length is None else offset + length
        self._check(offset, end)
        return coalesce(self._extents(offset, end))

    def _extents(self, offset: int, end: int) -> Iterator[Extent]:
        for units in self._units.pages(offset, end):
            low, high = _span(units.edges, offset, end)
            kinds = np.minimum(units.kinds[low:high], np.uint8(PLAIN))
            breaks = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
            cuts = [0, *breaks.tolist(), high - low]
            edges = units.edges[low : high + 1][cuts].tolist()
            for kind, first, last in zip(kinds[cuts[:-1]].tolist(), edges, edges[1:], strict=False):
                start, stop = max(first, offset), min(last, end)
                if kind == HOLE and self._backing is not None:
                    yield from self._backing_extents(self._backing, start, stop)
                else:
                    yield Extent(start, stop - start, ExtentKind.DATA if kind == PLAIN else ExtentKind.ZERO)

    def _backing_extents(self, backing: BlockSource, start: int, end: int) -> Iterator[Extent]:
        held = max(start, min(end, backing.size))
        if start < held:
            yield from backing.extents(start, held - start)
        if held < end:
            yield Extent(held, end - held, ExtentKind.ZERO)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        for run in self._runs(offset, offset + len(buffer)):
            part = buffer[run.offset - offset : run.offset - offset + run.length]
            if run.kind >= CODED:
                skip = run.offset - run.unit_offset
                part[:] = self._decoded(run)[skip : skip + run.length]
            elif run.kind == PLAIN:
                self._file.preadinto(run.place, part, structure=f"data of disk offset {run.offset}")
            elif run.kind == HOLE and self._backing is not None:
                held = max(0, min(run.length, self._backing.size - run.offset))
                if held:
                    self._backing.readinto(run.offset, part[:held])
                _fill_zeros(part[held:])
            else:
                _fill_zeros(part)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check(offset, offset + length)
        found: list[FileRange] = []
        for run in self._runs(offset, offset + length):
            if run.kind == PLAIN:
                found.append(FileRange(self._file.fileno(), self._file.base + run.place, run.length))
                continue
            if run.kind != HOLE or self._backing is None or run.offset + run.length > self._backing.size:
                return None
            below = self._backing.file_ranges(run.offset, run.length)
            if below is None:
                return None
            found.extend(below)
        return iter(found)

    def _runs(self, offset: int, end: int) -> Iterator[Run]:
        for units in self._units.pages(offset, end):
            low, high = _span(units.edges, offset, end)
            kinds, places, edges = units.kinds[low:high], units.places[low:high], units.edges[low : high + 1]
            advance = np.where(kinds[:-1] == PLAIN, (edges[1:-1] - edges[:-2]).astype(np.uint64), np.uint64(0))
            apart = (kinds[1:] != kinds[:-1]) | (kinds[1:] >= CODED) | (places[1:] != places[:-1] + advance)
            cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), high - low]
            stored = units.stored[low:high][cuts[:-1]].tolist() if units.stored is not None else [0] * (len(cuts) - 1)
            firsts, lasts = edges[cuts[:-1]].tolist(), edges[cuts[1:]].tolist()
            rows = zip(kinds[cuts[:-1]].tolist(), firsts, lasts, places[cuts[:-1]].tolist(), stored, strict=True)
            for kind, first, last, place, blob in rows:
                start, stop = max(first, offset), min(last, end)
                if kind == PLAIN:
                    place += start - first
                yield Run(kind, start, stop - start, place, blob, first, last - first)

    def _decoded(self, run: Run) -> bytes:
        with self._lock:
            data = self._cache.get(run.unit_offset)
        if data is not None:
            return data
        blob = self._file.pread(run.place, run.stored, structure="compressed unit")
        try:
            data = self._decoders[run.kind - CODED](blob, run.unit_length)
        except DecodeError as exc:
            raise MalformedImage(
                f"{self._file.path.name}: the compressed unit of disk offset {run.unit_offset}, at offset "
                f"{run.place}: {exc}; fetch the file again",
                structure="compressed unit", offset=run.place, reason="CLUSTER_DECOMPRESSION_FAILED",
            ) from exc  # fmt: skip
        if run.length < min(run.unit_length, self._size - run.unit_offset):
            self._remember(run.unit_offset, data)
        return data

    def _remember(self, unit_offset: int, data: bytes) -> None:
        with self._lock:
            if unit_offset not in self._cache:
                self._cache[unit_offset] = data
                self._cached += len(data)
            while self._cached > _CACHE_BYTES and len(self._cache) > 1:
                self._cached -= len(self._cache.popitem(last=False)[1])

    def info(self) -> dict[str, Any]:
        return dict(self._info)

    def close(self) -> None:
        if self._backing is not None:
            self._backing.close()
        self._file.close()

    def _check(self, offset: int, end: int) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(
                f"[{offset}, {end}) is not inside the {self._size} bytes of the disk in {self._file.path.name}",
                reason="OFFSET_PAST_END",
            )


def _span(edges: np.ndarray[Any, np.dtype[np.int64]], offset: int, end: int) -> tuple[int, int]:
    """The first unit and the one after the last that overlap [offset, end)."""
    low = max(0, int(np.searchsorted(edges, offset, side="right")) - 1)
    return low, min(len(edges) - 1, int(np.searchsorted(edges, end, side="left")))


def _fill_zeros(part: memoryview) -> None:
    """In slices of a constant, because memoryview has no fill."""
    for at in range(0, len(part), len(_ZEROS)):
        piece = part[at : at + len(_ZEROS)]
        piece[:] = _ZEROS[: len(piece)]

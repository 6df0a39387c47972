"""The extents that a VMDK is a row of: flat, zero and sparse. Each is an address space of its own, from 0.

An extent knows where its bytes are (`runs`) and reads them (`read`); what it leaves unallocated is the parent's, which
it asks for through a callback. Putting extents behind one another and finding parents is `source`'s.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sparse import file_extents
from hypersdk.errors import MalformedImage

from hypersdk_format_vmdk.geometry import UNALLOCATED, Entries
from hypersdk_format_vmdk.grains import decode_grain, stored_limit
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.tables import GrainTables, Piece

Below = Callable[[int, memoryview], None]
"""Fills a buffer with what the parent has at an offset of the extent: zeros where there is no parent."""

_LOOKUP_GRAINS = 4096
"""Ranges of at most so many grains are read through the cache of tables; longer ones are scanned."""

_READ_BYTES = 2 << 20
"""Compressed bytes read at once."""


class RunKind(IntEnum):
    UNALLOCATED = 0
    ZERO = 1
    DATA = 2


class Run(NamedTuple):
    """[offset, offset+length) of the extent is of one kind; `position` is the byte of the file where a DATA run
    lies as it is, or -1 where it is not stored so."""

    offset: int
    length: int
    kind: RunKind
    position: int = -1


class DiskExtent(abc.ABC):
    """One extent of `size` bytes. All methods are thread-safe."""

    size: int
    file: ImageFile | None = None
    granularity: int = 65536

    @abc.abstractmethod
    def runs(self, start: int, end: int) -> Iterator[Run]:
        """What [start, end) is, in order, without gaps. Raises MalformedImage."""

    @abc.abstractmethod
    def read(self, offset: int, buffer: memoryview, below: Below) -> None:
        """Fill `buffer`. Raises MalformedImage, DataLoss."""

    @abc.abstractmethod
    def details(self) -> dict[str, Any]:
        """For `info()`, JSON-able."""


class ZeroExtent(DiskExtent):
    """No file at all: zeros (extent type ZERO)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def runs(self, start: int, end: int) -> Iterator[Run]:
        yield Run(start, end - start, RunKind.ZERO)

    def read(self, offset: int, buffer: memoryview, below: Below) -> None:  # noqa: ARG002 -- of the contract
        fill_zero(buffer)

    def details(self) -> dict[str, Any]:
        return {"format": "ZERO", "virtual_size": self.size}


class FlatExtent(DiskExtent):
    """`size` bytes of a plain file from byte `start` on (extent types FLAT and VMFS). Holes of the file are zeros."""

    def __init__(self, file: ImageFile, start: int, size: int) -> None:
        if start + size > file.size:
            raise MalformedImage(
                f"{file.path.name}: flat extent needs {start + size} bytes, but the file has only {file.size}; it is "
                "truncated",
                structure="flat extent", offset=file.size, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        self.file = file
        self.size = size
        self._start = start

    def runs(self, start: int, end: int) -> Iterator[Run]:
        assert self.file is not None
        shift = self.file.base + self._start
        for extent in file_extents(self.file.fileno(), shift + start, shift + end):
            at = extent.offset - shift
            if extent.kind is ExtentKind.ZERO:
                yield Run(at, extent.length, RunKind.ZERO)
            else:
                yield Run(at, extent.length, RunKind.DATA, self._start + at)

    def read(self, offset: int, buffer: memoryview, below: Below) -> None:  # noqa: ARG002 -- of the contract
        assert self.file is not None
        self.file.preadinto(self._start + offset, buffer, structure="flat extent")

    def details(self) -> dict[str, Any]:
        assert self.file is not None
        return {"format": "FLAT", "filename": self.file.path.name, "virtual_size": self.size, "offset": self._start}


class SparseExtent(DiskExtent):
    """Grains behind a directory and tables: hosted, COWD and seSparse, compressed or not. `size` may be less than the
    geometry's capacity, which products round up to a whole grain."""

    def __init__(self, tables: GrainTables, size: int, kind: str) -> None:
        self.file = tables.file
        self.tables = tables
        self.size = size
        self.kind = kind
        self.granularity = tables.geometry.grain

    def runs(self, start: int, end: int) -> Iterator[Run]:
        grain = self.granularity
        first, last = start // grain, -(-end // grain)
        if last - first <= _LOOKUP_GRAINS:
            pieces: Iterator[Piece] = iter([(first, last - first, self.tables.lookup(first, last - first), 0)])
        else:
            pieces = self.tables.scan(first, last - first)
        for at, count, positions, mark in pieces:
            if positions is None:
                yield from _clip(Run(at * grain, count * grain, _kind(mark)), start, end)
            else:
                for run in self._runs_of(at, positions):
                    yield from _clip(run, start, end)

    def _runs_of(self, first: int, positions: Entries) -> Iterator[Run]:
        """Neighbouring grains of a kind as one run; stored ones only where they lie behind one another."""
        grain = self.granularity
        compressed = self.tables.geometry.compressed
        before, after = positions[:-1], positions[1:]
        both = (before > 0) & (after > 0)
        joined = (both if compressed else both & (after == before + grain)) | ((before <= 0) & (after == before))
        starts = np.concatenate(([0], np.flatnonzero(~joined) + 1))
        lengths = np.diff(starts, append=len(positions))
        for at, count, position in zip(starts.tolist(), lengths.tolist(), positions[starts].tolist(), strict=True):
            kind = _kind(position)
            stored = kind is RunKind.DATA and not compressed
            yield Run((first + at) * grain, count * grain, kind, position if stored else -1)

    def read(self, offset: int, buffer: memoryview, below: Below) -> None:
        assert self.file is not None
        compressed = self.tables.geometry.compressed
        for run in self.runs(offset, offset + len(buffer)):
            view = buffer[run.offset - offset : run.offset - offset + run.length]
            if run.kind is RunKind.UNALLOCATED:
                below(run.offset, view)
            elif run.kind is RunKind.ZERO:
                fill_zero(view)
            elif compressed:
                self._read_compressed(run.offset, view)
            else:
                self.file.preadinto(run.position, view, structure="grain")

    def _read_compressed(self, offset: int, view: memoryview) -> None:
        """`view` is all of compressed grains. Grains that lie near one another are read with one system call."""
        grain = self.granularity
        first = offset // grain
        positions = self.tables.lookup(first, -(-(offset + len(view)) // grain) - first).tolist()
        limit = stored_limit(grain)
        index = 0
        while index < len(positions):
            stop = index + 1
            while (
                stop < len(positions)
                and 0 < positions[stop] - positions[stop - 1] <= limit
                and positions[stop] - positions[index] <= _READ_BYTES
            ):
                stop += 1
            self._read_near(first + index, positions[index:stop], offset, view)
            index = stop

    def _read_near(self, first: int, positions: list[int], offset: int, view: memoryview) -> None:
        assert self.file is not None
        tables, grain, name = self.tables, self.granularity, self.file.path.name
        start = positions[0]
        end = min(tables.size, positions[-1] + stored_limit(grain))
        blob = memoryview(self.file.pread(start, end - start, structure="compressed grain"))
        for number, position in enumerate(positions, first):
            data = decode_grain(
                blob, position - start, lba=number * (grain // SECTOR), grain=grain,
                need=min(grain, tables.geometry.capacity - number * grain), where=position, name=name,
            )  # fmt: skip
            low = max(offset, number * grain)
            high = min(offset + len(view), number * grain + grain)
            view[low - offset : high - offset] = data[low - number * grain : high - number * grain]

    def details(self) -> dict[str, Any]:
        assert self.file is not None
        return {
            "format": self.kind,
            "filename": self.file.path.name,
            "virtual_size": self.size,
            "cluster_size": self.granularity,
            "compressed": self.tables.geometry.compressed,
            "redundant_directory": bool(self.tables.geometry.redundant_offset),
            "read_by_redundant_directory": self.tables.by_redundant,
        }


def fill_zero(view: memoryview) -> None:
    np.frombuffer(view, dtype=np.uint8)[:] = 0


def _kind(position: int) -> RunKind:
    if position > 0:
        return RunKind.DATA
    return RunKind.UNALLOCATED if position == UNALLOCATED else RunKind.ZERO


def _clip(run: Run, start: int, end: int) -> Iterator[Run]:
    low, high = max(run.offset, start), min(run.offset + run.length, end)
    if low < high:
        moved = run.position + low - run.offset if run.position >= 0 else -1
        yield Run(low, high - low, run.kind, moved)

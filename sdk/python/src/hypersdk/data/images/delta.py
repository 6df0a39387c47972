"""Overlays: an image that holds only what differs from another one, its backing file.

`DeltaSink` stands before a sink that was created with a backing file and is of its type. It compares what it is given
with the backing file, unit by unit: units that are equal are left out, units that are zeros only here are handed on as
zeros (which such a sink must record, or the backing file would show through), the rest is written. Whatever the
backing file's size, it reads as zeros past its end.

`over_base` makes one for a target whose options name a backing file. The name is plain, of a file in the target's own
directory: the rule for reading holds for what is recorded, too (ImageFile.open_sibling).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hypersdk.data.extent import ExtentKind
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import InvalidArgument

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.images.registry import FormatRegistry
    from hypersdk.data.source import BlockSource

_PIECE = 1 << 20
_SECTOR = 512
"""Formats with backing files count disks in sectors: up to the end of the last one the backing file shows through."""


def over_base(
    sink: BlockSink,
    file: ImageFile,
    options: Mapping[str, str],
    registry: FormatRegistry,
    *,
    base_options: Mapping[str, str] | None = None,
) -> BlockSink:
    """`sink`, which writes `file`, or a DeltaSink before it when the target's `options` name a `backing_file`.
    Raises what opening the backing file raises, InvalidArgument (SAME_FILE) when it is the target."""
    name = options.get("backing_file")
    if not name:
        return sink
    if name == _published(file):
        raise InvalidArgument(f"{name!r} cannot be its own backing file; choose another target", reason="SAME_FILE")
    base = registry.get(options["backing_fmt"]).open(file.open_sibling(name, structure="backing file"), base_options)
    return DeltaSink(sink, base)


def base_identity(target: Path, options: Mapping[str, str]) -> list[int]:
    """What has to be the same of a target's backing file for a resumed conversion to make sense; empty without one."""
    name = options.get("backing_file")
    if not name:
        return []
    try:
        facts = os.lstat(target.parent / name)
    except OSError:
        return []  # opening it will tell why
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _published(file: ImageFile) -> str:
    from hypersdk.data.images.partial import published_name

    return published_name(file.path)


class _Run(NamedTuple):
    """`length` bytes at `offset` of the disk that differ from the base: zeros, or `payload`, encoded if the sink
    below does that."""

    offset: int
    length: int
    is_zero: bool
    payload: Any


class DeltaSink(BlockSink):
    """A sink that hands on to `sink` what differs from `base`. Takes over both: `base` is closed at the end. The
    comparison is its `encode`, so the pipeline does it in its worker threads."""

    encodes = True

    def __init__(self, sink: BlockSink, base: BlockSource) -> None:
        self._sink = sink
        self._base = base
        self.random_access = sink.random_access

    @property
    def size(self) -> int:
        return self._sink.size

    @property
    def granularity(self) -> int:
        return self._sink.granularity

    def write(self, offset: int, data: Buffer) -> None:
        self.write_encoded(offset, self.encode(offset, data))

    def zero(self, offset: int, length: int) -> None:
        for start, end in self._base_data(offset, offset + length):
            for at in range(start, end, self._step):
                count = min(self._step, end - at)
                base = self._read_base(at, count)
                held = _has_data(base)
                for first, last, _ in _alike(held, held):
                    self._sink.zero(at + first * self.granularity, self._clipped(at, first, last, count))

    def encode(self, offset: int, data: Buffer) -> object:
        view = memoryview(data).cast("B")
        base = self._read_base(offset, len(view))
        padded = np.zeros(base.shape, np.uint8)
        padded.reshape(-1)[: len(view)] = view
        differs = _has_data(padded != base)
        if not differs.any():
            return []
        runs: list[_Run] = []
        for first, last, holds_data in _alike(differs, _has_data(padded)):
            start, length = first * self.granularity, self._clipped(offset, first, last, len(view))
            payload: Any = None
            if holds_data:
                part = view[start : start + length]
                payload = self._sink.encode(offset + start, part) if self._sink.encodes else part
            runs.append(_Run(offset + start, length, not holds_data, payload))
        return runs

    def write_encoded(self, offset: int, encoded: object) -> None:  # noqa: ARG002 - the runs have offsets of their own
        assert isinstance(encoded, list)
        for run in encoded:
            if run.is_zero:
                self._sink.zero(run.offset, run.length)
            elif self._sink.encodes:
                self._sink.write_encoded(run.offset, run.payload)
            else:
                self._sink.write(run.offset, run.payload)

    def checkpoint(self) -> dict[str, Any] | None:
        return self._sink.checkpoint()

    def finish(self) -> dict[str, Any]:
        facts = self._sink.finish()
        self._base.close()
        return facts

    def abort(self) -> None:
        self._sink.abort()
        self._base.close()

    @property
    def _step(self) -> int:
        return max(_PIECE, self.granularity)

    def _clipped(self, offset: int, first: int, last: int, length: int) -> int:
        """Bytes of the units first to last of a piece of `length` bytes."""
        unit = self.granularity
        return min(last * unit, length, self.size - offset) - first * unit

    def _read_base(self, offset: int, length: int) -> npt.NDArray[np.uint8]:
        """One row a unit."""
        unit = self.granularity
        rows = np.zeros((-(-length // unit), unit), np.uint8)
        end = self._seen_to(offset + length)
        if end > offset:
            self._base.readinto(offset, rows.reshape(-1).data[: end - offset])
        return rows

    def _seen_to(self, end: int) -> int:
        """Where the base ends to be seen, when the disk is looked at up to `end`."""
        if end >= self.size:
            end = -(-self.size // _SECTOR) * _SECTOR
        return min(end, self._base.size)

    def _base_data(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Whole units of [start, end) in which the base may hold data, in order and merged."""
        unit = self.granularity
        seen = self._seen_to(end)
        low = high = start
        for extent in self._base.extents(start, seen - start) if seen > start else ():
            if extent.kind != ExtentKind.DATA:
                continue
            first = max(high, extent.offset // unit * unit)
            last = min(-(-extent.end // unit) * unit, end)
            if first > high:
                if high > low:
                    yield low, high
                low = first
            high = max(high, last)
        if high > low:
            yield low, high


def _has_data(rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(rows.any(axis=1))


def _alike(chosen: npt.NDArray[np.bool_], kind: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """Runs of units that are `chosen` and of one `kind`: first, last exclusive, kind."""
    code = chosen.astype(np.int8) * (1 + kind.astype(np.int8))
    edges = [0, *(np.flatnonzero(np.diff(code)) + 1).tolist(), len(code)]
    for first, last in pairwise(edges):
        if first < last and code[first]:
            yield first, last, code[first] == 2

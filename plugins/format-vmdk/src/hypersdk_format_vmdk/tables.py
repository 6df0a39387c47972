"""The grain directory and the grain tables of one sparse extent: decoded with numpy, loaded when needed, checked.

Two ways to them: `lookup` for the few grains of a read, through a bounded cache; `scan` for whole ranges, which skips
what is unallocated by the directory and by the holes of the file, so that its cost grows with the tables that describe
data. Positions that come out of here lie in the file. What the grains hold is not looked at.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sparse import file_extents
from hypersdk.errors import MalformedImage

from hypersdk_format_vmdk.geometry import IMPOSSIBLE, UNALLOCATED, Entries, GrainGeometry
from hypersdk_format_vmdk.markers import MARKER_HEAD

_CACHE_BYTES = 8 << 20
"""Decoded tables kept for `lookup`: 64 GiB of virtual disk with hosted tables, 4 GiB with seSparse ones."""

_BATCH_BYTES = 256 << 10
"""Raw tables decoded at once by `scan`: 2 MiB of arrays at the peak."""

_DIRECTORY_CHUNK = 65536
"""Directory entries decoded at once."""


Piece = tuple[int, int, Entries | None, int]
"""Of a scan: first grain, grains, their positions; or None where all of them are what the fourth says."""


class GrainTables:
    """Opened once, then read by any number of threads; closing the file is its owner's affair."""

    def __init__(self, file: ImageFile, geometry: GrainGeometry, *, redundant: bool = False) -> None:
        """`redundant`: by the second directory, whose tables are copies of the first's. Raises MalformedImage."""
        self.file = file
        self.geometry = geometry
        self.size = file.size
        self.by_redundant = redundant
        self._dtype = np.dtype("<u4" if geometry.entry_bytes == 4 else "<u8")
        self._cache: OrderedDict[int, Entries] = OrderedDict()
        self._cache_tables = max(4, _CACHE_BYTES // (geometry.entries * 8))
        self._lock = threading.Lock()
        if redundant:
            self._directory = self._load_directory(geometry.redundant_offset, "redundant grain directory")
        else:
            self._directory = self._load_directory(geometry.directory_offset, "grain directory")

    @property
    def complete(self) -> bool:
        """Has every part of the disk a table?"""
        return bool(self._directory.all())

    def directory(self, first: int, count: int) -> Entries:
        """Byte offsets of tables [first, first+count), or UNALLOCATED or ZEROED."""
        return self.geometry.decode_directory(self._directory[first : first + count])

    def lookup(self, first: int, count: int) -> Entries:
        """Positions of grains [first, first+count), for small counts. Thread-safe."""
        entries = self.geometry.entries
        parts: list[Entries] = []
        at, end = first, first + count
        while at < end:
            table = at // entries
            stop = min(end, (table + 1) * entries)
            parts.append(self._cached(table)[at - table * entries : stop - table * entries])
            at = stop
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def scan(self, first: int, count: int) -> Iterator[Piece]:
        """All of grains [first, first+count), in order."""
        entries = self.geometry.entries
        end = first + count
        for table, tables, offset in self._groups(first // entries, -(-end // entries)):
            for grain, grains, positions, mark in self._group(table, tables, offset):
                low, high = max(grain, first), min(grain + grains, end)
                if low < high:
                    yield low, high - low, None if positions is None else positions[low - grain : high - grain], mark

    def _groups(self, first: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Tables [first, end) as (first table, tables, offset of the first or mark) where all of a group are
        unallocated, or zeroed, or lie behind one another in the file."""
        step = self.geometry.table_bytes
        for chunk in range(first, end, _DIRECTORY_CHUNK):
            offsets = self.directory(chunk, min(_DIRECTORY_CHUNK, end - chunk))
            before, after = offsets[:-1], offsets[1:]
            joined = ((before > 0) & (after == before + step)) | ((before <= 0) & (after == before))
            starts = np.concatenate(([0], np.flatnonzero(~joined) + 1, [len(offsets)])).tolist()
            for start, stop in pairwise(starts):
                yield chunk + start, stop - start, int(offsets[start])

    def _group(self, table: int, tables: int, offset: int) -> Iterator[Piece]:
        entries, step = self.geometry.entries, self.geometry.table_bytes
        if offset <= 0:
            yield table * entries, tables * entries, None, offset
            return
        done = 0
        for low, high in self._allocated(offset, tables):
            if low > done:
                yield (table + done) * entries, (low - done) * entries, None, UNALLOCATED
            batch = max(1, _BATCH_BYTES // step)
            for at in range(low, high, batch):
                n = min(batch, high - at)
                yield (table + at) * entries, n * entries, self._read(table + at, n, offset + at * step), 0
            done = high
        if done < tables:
            yield (table + done) * entries, (tables - done) * entries, None, UNALLOCATED

    def _allocated(self, offset: int, tables: int) -> Iterator[tuple[int, int]]:
        """Which of the tables that lie behind one another from `offset` are not in a hole of the file: [low, high)."""
        step = self.geometry.table_bytes
        if tables == 1:
            yield 0, 1
            return
        start = self.file.base + offset
        done = 0
        for extent in file_extents(self.file.fileno(), start, start + tables * step):
            if extent.kind is ExtentKind.ZERO:
                continue
            low = max(done, (extent.offset - start) // step)
            high = -(-(extent.end - start) // step)
            if low < high:
                yield low, high
                done = high

    def _cached(self, table: int) -> Entries:
        with self._lock:
            found = self._cache.get(table)
            if found is not None:
                self._cache.move_to_end(table)
                return found
        offset = int(self.directory(table, 1)[0])
        marked = np.full(self.geometry.entries, offset, dtype=np.int64)
        found = self._read(table, 1, offset) if offset > 0 else marked
        with self._lock:
            self._cache[table] = found
            while len(self._cache) > self._cache_tables:
                self._cache.popitem(last=False)
        return found

    def _read(self, table: int, tables: int, offset: int) -> Entries:
        raw = self.file.pread(offset, tables * self.geometry.table_bytes, structure=f"grain table {table}")
        positions = self.geometry.decode_table(np.frombuffer(raw, dtype=self._dtype))
        self._check_positions(positions, table, offset)
        return positions

    def _check_positions(self, positions: Entries, table: int, offset: int) -> None:
        """Every grain lies in the file. The extent's last grain may be cut short to the capacity, and entries
        past the capacity mean nothing."""
        geometry = self.geometry
        first = table * geometry.entries
        real = positions[: geometry.grains - first]
        need = MARKER_HEAD if geometry.compressed else geometry.grain
        wrong = (real == IMPOSSIBLE) | ((real > 0) & ((real < geometry.lowest) | (real + need > self.size)))
        if not wrong.any():
            return
        for index in np.flatnonzero(wrong).tolist():
            grain, position = first + index, int(real[index])
            left = geometry.capacity - grain * geometry.grain
            if position >= geometry.lowest and position + min(need, left) <= self.size:
                continue
            where = offset + index * geometry.entry_bytes
            raise MalformedImage(
                f"{self.file.path.name}: grain table {grain // geometry.entries} at offset {where} puts grain {grain} "
                + ("at an impossible place" if position < geometry.lowest else f"at byte {position} of {self.size}")
                + "; the image is truncated or its tables are corrupt",
                structure="grain table", offset=where,
                reason="IMAGE_MALFORMED" if position < geometry.lowest else "IMAGE_TRUNCATED",
            )  # fmt: skip

    def _load_directory(self, offset: int, structure: str) -> np.ndarray:
        """The raw directory, with every table in the file and no table twice."""
        geometry = self.geometry
        name = self.file.path.name
        if offset <= 0 or offset + geometry.directory_bytes > self.size:
            raise MalformedImage(
                f"{name}: {structure} at offset {offset} with {geometry.directory_bytes} bytes is not in the file of "
                f"{self.size}; it is truncated or its header is corrupt",
                structure=structure, offset=max(0, offset), reason="IMAGE_TRUNCATED" if offset > 0 else None,
            )  # fmt: skip
        raw = np.frombuffer(self.file.pread(offset, geometry.directory_bytes, structure=structure), dtype=self._dtype)
        used = int(np.count_nonzero(raw))
        if (used - 1) * geometry.table_bytes > self.size:
            raise MalformedImage(
                f"{name}: {structure} at offset {offset} has {used} tables, more than fit in the file",
                structure=structure, offset=offset,
            )  # fmt: skip
        previous, sorted_so_far = 0, True
        for chunk in range(0, len(raw), _DIRECTORY_CHUNK):
            offsets = geometry.decode_directory(raw[chunk : chunk + _DIRECTORY_CHUNK])
            tables = offsets[offsets > 0]
            wrong = (offsets == IMPOSSIBLE) | ((offsets > 0) & (offsets + geometry.table_bytes > self.size))
            if wrong.any():
                index = chunk + int(np.flatnonzero(wrong)[0])
                raise MalformedImage(
                    f"{name}: {structure} entry {index} at offset {offset + index * geometry.entry_bytes} puts its "
                    f"table where the file of {self.size} bytes has none; it is truncated or the directory is corrupt",
                    structure=structure, offset=offset + index * geometry.entry_bytes, reason="IMAGE_TRUNCATED",
                )  # fmt: skip
            if len(tables):
                ascending = np.concatenate(([previous], tables))
                sorted_so_far = sorted_so_far and bool((ascending[1:] > ascending[:-1]).all())
                previous = int(tables[-1])
        if not sorted_so_far:
            in_order = np.sort(raw[raw > 1])
            if (in_order[1:] == in_order[:-1]).any():
                raise MalformedImage(
                    f"{name}: {structure} at offset {offset} uses one grain table twice",
                    structure=structure, offset=offset,
                )  # fmt: skip
        return raw


def open_tables(file: ImageFile, geometry: GrainGeometry) -> GrainTables:
    """The tables by the first directory or, where that one is impossible and there is a second (VDF 5.0 keeps it,
    with tables of its own, for this case), by the second. Every product lays out all tables of both in advance, so a
    second directory with gaps is damaged too, and would read as zeros. Raises MalformedImage naming the first one's
    fault."""
    try:
        return GrainTables(file, geometry)
    except MalformedImage:
        if geometry.redundant_offset:
            try:
                second = GrainTables(file, geometry, redundant=True)
            except MalformedImage:
                second = None  # the first one's fault is the one to tell
            if second is not None and second.complete:
                return second
        raise

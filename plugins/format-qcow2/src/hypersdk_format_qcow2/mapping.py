"""From guest addresses to places in the file: `Mapping` walks the L2 tables lazily and in windows.

A window is up to 8,192 consecutive L2 entries (2,048 extended ones): a slice of one table when clusters are
large, several tables when they are small. So memory and work per step are the same for every cluster size,
and a disk of 16 TiB costs no more than the tables that exist. Knows nothing of compression or backing files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_qcow2.entries import COMPRESSED, HOLE, PLAIN, EntryDecoder, Kinds, Units
from hypersdk_format_qcow2.geometry import Geometry
from hypersdk_format_qcow2.l1 import U64

WINDOW_ENTRIES = 8192
WINDOW_ENTRIES_EXTENDED = 2048
CACHED_WINDOWS = 24
"""72 KiB each for standard entries, 576 KiB for extended ones: below 14 MiB."""

_MAX_METADATA_CLUSTERS = 1 << 22
"""32 MiB of offsets; QEMU's own limits on header, L1 and refcount table allow less than 2^18."""


class Run(NamedTuple):
    """`length` guest bytes from `offset` in one state (`entries.HOLE` …). `host`: file offset for PLAIN, the
    L2 entry for COMPRESSED (then the run is inside one cluster), else 0."""

    kind: int
    offset: int
    length: int
    host: int


class Mapping:
    """The map of one L1 table. Thread-safe."""

    def __init__(self, file: ImageFile, geometry: Geometry, tables: U64, metadata: U64) -> None:
        """`tables`: judged L2 offsets as `l1.load_l1` gives them; `metadata`: offsets of other metadata
        clusters."""
        self._file = file
        self._geometry = geometry
        self._tables = tables
        self._used = np.flatnonzero(tables)
        taken = np.sort(np.concatenate([metadata, tables[self._used]]))
        distinct = taken[np.append(True, taken[1:] != taken[:-1])[: len(taken)]]  # np.unique imports 8 ms of numpy.ma
        self._decoder = EntryDecoder(file.path.name, geometry, distinct)
        self._window = WINDOW_ENTRIES_EXTENDED if geometry.extended_l2 else WINDOW_ENTRIES
        self._cache: OrderedDict[int, Units] = OrderedDict()
        self._lock = threading.Lock()

    def kind_runs(self, offset: int, length: int) -> Iterator[Run]:
        """Runs of one state (COMPRESSED told as PLAIN, hosts all 0) that cover the range. Neighbours may be
        of the same kind where windows meet. Stretches without L2 tables cost nothing."""
        for start, end, units, low, high in self._pieces(offset, length):
            if units is None:
                yield Run(HOLE, start, end - start, 0)
                continue
            kinds = np.minimum(units.kinds[low:high], np.uint8(PLAIN))
            yield from self._runs(start, end, kinds, np.flatnonzero(kinds[1:] != kinds[:-1]) + 1, None)

    def host_runs(self, offset: int, length: int) -> Iterator[Run]:
        """Runs that are contiguous in the file too; a COMPRESSED run never leaves its cluster."""
        step = np.uint64(self._geometry.unit_size)
        for start, end, units, low, high in self._pieces(offset, length):
            if units is None:
                yield Run(HOLE, start, end - start, 0)
                continue
            kinds, hosts = units.kinds[low:high], units.hosts[low:high]
            advance = np.where(kinds[:-1] == PLAIN, step, np.uint64(0))
            breaks = np.flatnonzero((kinds[1:] != kinds[:-1]) | (hosts[1:] != hosts[:-1] + advance)) + 1
            yield from self._runs(start, end, kinds, breaks, hosts)

    def _runs(
        self, start: int, end: int, kinds: Kinds, breaks: np.ndarray[tuple[int], np.dtype[np.intp]],
        hosts: U64 | None,
    ) -> Iterator[Run]:  # fmt: skip
        unit = self._geometry.unit_size
        base = start - start % unit
        edges = [0, *breaks.tolist(), len(kinds)]
        states = kinds[edges[:-1]].tolist()
        addresses = hosts[edges[:-1]].tolist() if hosts is not None else [0] * len(states)
        cluster = self._geometry.cluster_size
        for index, kind in enumerate(states):
            first, last = max(start, base + edges[index] * unit), min(end, base + edges[index + 1] * unit)
            host = addresses[index]
            if kind == PLAIN and hosts is not None:
                host += first - (base + edges[index] * unit)
            if kind != COMPRESSED or last <= first - first % cluster + cluster:
                yield Run(kind, first, last - first, host)
                continue
            # Two neighbours with one entry: legal for nobody, but it must not become one run.
            while first < last:
                stop = min(last, first - first % cluster + cluster)
                yield Run(kind, first, stop - first, host)
                first = stop

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, Units | None, int, int]]:
        """(start, end, units of the window or None for a stretch without tables, first unit, end unit)."""
        geometry = self._geometry
        window_bytes = self._window * geometry.cluster_size
        at, end = offset, offset + length
        while at < end:
            window = at // window_bytes
            stop = min(end, (window + 1) * window_bytes)
            first_table = window * self._window // geometry.l2_entries
            last_table = ((window + 1) * self._window - 1) // geometry.l2_entries
            after = int(np.searchsorted(self._used, first_table))
            if after == len(self._used) or self._used[after] > last_table:
                if after < len(self._used):
                    next_table = int(self._used[after]) * geometry.l2_entries * geometry.cluster_size
                    stop = min(end, next_table - next_table % window_bytes)
                else:
                    stop = end
                yield at, stop, None, 0, 0
            else:
                units = self._load(window)
                base = window * window_bytes
                low = (at - base) // geometry.unit_size
                yield at, stop, units, low, -(-(stop - base) // geometry.unit_size)
            at = stop

    def _load(self, window: int) -> Units:
        with self._lock:
            units = self._cache.get(window)
            if units is not None:
                self._cache.move_to_end(window)
                return units
        first = window * self._window
        count = min(self._window, self._geometry.clusters - first)
        units = self._decoder.decode(self._read(first, count), first)
        with self._lock:
            self._cache[window] = units
            while len(self._cache) > CACHED_WINDOWS:
                self._cache.popitem(last=False)
        return units

    def _read(self, first: int, count: int) -> U64:
        """The raw entries of `count` clusters from `first`; tables that lie one after the other in one
        read."""
        geometry = self._geometry
        entry_bytes = 8 * geometry.entry_words
        buffer = bytearray(count * entry_bytes)
        view = memoryview(buffer)
        done = 0
        while done < count:
            table, index = divmod(first + done, geometry.l2_entries)
            host = int(self._tables[table])
            take = min(count - done, geometry.l2_entries - index)
            while (
                host
                and done + take < count
                and int(self._tables[table + 1]) == int(self._tables[table]) + geometry.cluster_size
            ):
                table += 1
                take = min(count - done, take + geometry.l2_entries)
            if host:
                self._file.preadinto(
                    host + index * entry_bytes,
                    view[done * entry_bytes : (done + take) * entry_bytes],
                    structure=f"L2 table {table}",
                )
            done += take
        return np.frombuffer(buffer, dtype=">u8").astype(np.uint64)


def metadata_clusters(name: str, geometry: Geometry, areas: list[tuple[int, int, str]]) -> U64:
    """Sorted offsets of the clusters that `areas` (offset, length in bytes, structure) cover. Raises
    MalformedImage when two areas overlap, or one leaves the file, or they are too large together to be
    real."""
    cluster = geometry.cluster_size
    held: list[tuple[int, int, str]] = []
    covered = 0
    for offset, length, structure in sorted(area for area in areas if area[1]):
        fault = ""
        covered += -(-length // cluster)
        if held and offset < held[-1][1]:
            fault = f"overlaps the {held[-1][2]}"
        elif offset and offset + length > geometry.file_size:
            fault = f"needs {length} bytes, but the file has only {geometry.file_size}"
        elif covered > _MAX_METADATA_CLUSTERS:
            fault = f"makes more than {_MAX_METADATA_CLUSTERS} clusters of metadata"
        if fault:
            raise MalformedImage(f"{name}: {structure} at offset {offset} {fault}", structure=structure, offset=offset)
        held.append((offset, -(-(offset + length) // cluster) * cluster, structure))
    spans = [np.arange(start - start % cluster, end, cluster, dtype=np.uint64) for start, end, _ in held]
    return np.concatenate(spans) if spans else np.zeros(0, np.uint64)

"""Qcow2Source: one L1 table (the active one or a snapshot's) as a BlockSource, over its backing file if it
has one.

Reads are split into runs by the mapping; plain runs are one `preadv` each, compressed clusters that lie close
together are fetched in one read and inflated one by one. Where tables are judged is `entries` and `l1`; what
may be opened is decided in `opening`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind, FileRange, coalesce
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, MalformedImage, OutOfRange

from hypersdk_format_qcow2.codecs import Codec, CodecError
from hypersdk_format_qcow2.entries import COMPRESSED, HOLE, PLAIN, CompressedRange, compressed_range
from hypersdk_format_qcow2.geometry import Geometry
from hypersdk_format_qcow2.mapping import Mapping, Run

_ZEROS = bytes(1 << 20)
_CACHE_BYTES = 4 << 20
"""Decompressed clusters kept for reads smaller than a cluster."""
_FETCH_BYTES = 4 << 20
"""Compressed clusters are fetched together as long as they span no more than this."""


class Qcow2Source(BlockSource):
    """Life: made by `opening.open_source` with everything judged; read by any threads; closed with its
    backing."""

    def __init__(
        self, file: ImageFile, geometry: Geometry, mapping: Mapping, codec: Codec, info: MappingABC[str, Any],
        backing: BlockSource | None = None, refusal: FailedPrecondition | None = None,
    ) -> None:  # fmt: skip
        """`refusal` is raised by every access to data: `info` alone works then."""
        self._file = file
        self._geometry = geometry
        self._mapping = mapping
        self._codec = codec
        self._info = info
        self._backing = backing
        self._refusal = refusal
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        return self._geometry.size

    @property
    def granularity(self) -> int:
        return self._geometry.cluster_size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        if length is None:
            length = max(0, self.size - offset)
        self._check(offset, length)
        return coalesce(self._extents(offset, length))

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        for run in self._mapping.kind_runs(offset, length):
            if run.kind == HOLE and self._backing is not None:
                inside = max(0, min(run.length, self._backing.size - run.offset))
                if inside:
                    yield from self._backing.extents(run.offset, inside)
                if inside < run.length:
                    yield Extent(run.offset + inside, run.length - inside, ExtentKind.ZERO)
            else:
                kind = ExtentKind.DATA if run.kind == PLAIN else ExtentKind.ZERO
                yield Extent(run.offset, run.length, kind)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, len(buffer))
        group: list[Run] = []
        for run in self._mapping.host_runs(offset, len(buffer)):
            if run.kind == COMPRESSED:
                group.append(run)
                continue
            if group:
                self._read_compressed(group, offset, buffer)
                group = []
            part = buffer[run.offset - offset : run.offset - offset + run.length]
            if run.kind == PLAIN:
                self._file.preadinto(run.host, part, structure=f"data of guest offset {run.offset}")
            elif run.kind == HOLE and self._backing is not None:
                self._read_backing(run.offset, part)
            else:
                fill_zeros(part)
        if group:
            self._read_compressed(group, offset, buffer)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        self._check(offset, length)
        found: list[FileRange] = []
        for run in self._mapping.host_runs(offset, length):
            if run.kind == PLAIN:
                found.append(FileRange(self._file.fileno(), self._file.base + run.host, run.length))
                continue
            if run.kind != HOLE or self._backing is None or run.offset + run.length > self._backing.size:
                return None
            below = self._backing.file_ranges(run.offset, run.length)
            if below is None:
                return None
            found.extend(below)
        return iter(found)

    def info(self) -> dict[str, Any]:
        return dict(self._info)

    def close(self) -> None:
        if self._backing is not None:
            self._backing.close()
        self._file.close()

    def _check(self, offset: int, length: int) -> None:
        if self._refusal is not None:
            raise self._refusal
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRange(
                f"{self._file.path.name}: {length} bytes at offset {offset} are not inside the disk of {self.size} "
                "bytes",
                metadata={"size": str(self.size)},
            )

    def _read_backing(self, offset: int, part: memoryview) -> None:
        assert self._backing is not None
        inside = max(0, min(len(part), self._backing.size - offset))
        if inside:
            self._backing.readinto(offset, part[:inside])
        fill_zeros(part[inside:])

    def _read_compressed(self, group: list[Run], base: int, buffer: memoryview) -> None:
        """Runs in order, each within one cluster. Those near to each other in the file share one read."""
        at = 0
        while at < len(group):
            first = self._range_of(group[at])
            low, high, stop = first.offset, first.end, at + 1
            ranges = [first]
            while stop < len(group):
                following = self._range_of(group[stop])
                near = high - 1024 <= following.offset <= high + self._geometry.cluster_size
                if not near or following.end - low > _FETCH_BYTES:
                    break
                high = max(high, following.end)
                ranges.append(following)
                stop += 1
            high = min(high, self._geometry.file_size)
            blob = memoryview(self._file.pread(low, high - low, structure="compressed clusters"))
            for run, place in zip(group[at:stop], ranges, strict=True):
                part = buffer[run.offset - base : run.offset - base + run.length]
                self._decode(run, blob[place.offset - low : place.end - low], part)
            at = stop

    def _range_of(self, run: Run) -> CompressedRange:
        return compressed_range(self._geometry, run.host)

    def _decode(self, run: Run, blob: memoryview, part: memoryview) -> None:
        cluster_size = self._geometry.cluster_size
        index, skip = divmod(run.offset, cluster_size)
        with self._lock:
            data = self._cache.get(index)
        if data is None:
            try:
                data = self._codec.decompress(blob, cluster_size)
            except CodecError as exc:
                place = self._range_of(run)
                raise MalformedImage(
                    f"{self._file.path.name}: compressed cluster at offset {place.offset} (guest offset "
                    f"{index * cluster_size}): {exc}",
                    structure="compressed cluster", offset=place.offset, reason="CLUSTER_DECOMPRESSION_FAILED",
                ) from exc  # fmt: skip
            if len(part) < min(cluster_size, self.size - index * cluster_size):
                self._remember(index, data)
        part[:] = data[skip : skip + len(part)]

    def _remember(self, index: int, data: bytes) -> None:
        with self._lock:
            self._cache[index] = data
            while len(self._cache) * len(data) > _CACHE_BYTES and len(self._cache) > 1:
                self._cache.popitem(last=False)


def fill_zeros(part: memoryview) -> None:
    """Zero `part`; a loop over slices of a constant, because memoryview has no fill."""
    for at in range(0, len(part), len(_ZEROS)):
        piece = part[at : at + len(_ZEROS)]
        piece[:] = _ZEROS[: len(piece)]

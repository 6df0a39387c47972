"""Virtual disks for tests: PatternSource and FaultySource to read, MemorySink to write.

A pattern is computed from the offset, so a disk of any size costs nothing and every byte is checkable. Not
fast: for tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind, clip, coalesce
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, HyperError, OutOfRange

_BLOCK = 4096


class PatternSource(BlockSource):
    """`size` bytes, of which the ranges `data` hold a pattern that depends on `seed` and the offset, and
    the rest is zeros. No block of the pattern is all zeros. `granularity` bytes as told."""

    def __init__(
        self, size: int, data: Iterable[tuple[int, int]] | None = None, *, seed: int = 0, granularity: int = 65536
    ) -> None:
        self._size = size
        self._granularity = granularity
        self._seed = seed
        self._data = [(0, size)] if data is None else sorted(data)
        self.closed = False

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return self._granularity

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._size if length is None else offset + length
        self._check(offset, end)
        yield from clip(coalesce(self._all()), offset, end)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        end = offset + len(buffer)
        self._check(offset, end)
        for extent in self.extents(offset, len(buffer)):
            view = buffer[extent.offset - offset : extent.end - offset]
            if extent.kind == ExtentKind.ZERO:
                view[:] = bytes(extent.length)
                continue
            at = extent.offset
            while at < extent.end:
                block, within = divmod(at, _BLOCK)
                count = min(_BLOCK - within, extent.end - at)
                view[at - extent.offset : at - extent.offset + count] = self._block(block)[within : within + count]
                at += count

    def content(self) -> bytes:
        """The whole disk; for small ones."""
        buffer = bytearray(self._size)
        self.readinto(0, memoryview(buffer))
        return bytes(buffer)

    def info(self) -> dict[str, Any]:
        return {"format": "pattern", "virtual_size": self._size}

    def close(self) -> None:
        self.closed = True

    def _all(self) -> Iterator[Extent]:
        at = 0
        for offset, length in self._data:
            end = min(offset + length, self._size)
            start = max(offset, at)
            if start > at:
                yield Extent(at, min(start, self._size) - at, ExtentKind.ZERO)
            if end > start:
                yield Extent(start, end - start, ExtentKind.DATA)
            at = max(at, end, min(start, self._size))
        if at < self._size:
            yield Extent(at, self._size - at, ExtentKind.ZERO)

    def _block(self, number: int) -> bytes:
        digest = hashlib.sha256(f"{self._seed}:{number}".encode()).digest()
        return digest * (_BLOCK // len(digest))

    def _check(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(f"[{offset}, {end}) is not inside {self._size} bytes", reason="OFFSET_PAST_END")


class FaultySource(BlockSource):
    """`inner`, but a read that touches `at` raises `failure` (the first `times` reads of it; -1: always)."""

    def __init__(self, inner: BlockSource, at: int, failure: HyperError, times: int = -1) -> None:
        self._inner = inner
        self._at = at
        self._failure = failure
        self._times = times

    @property
    def size(self) -> int:
        return self._inner.size

    @property
    def granularity(self) -> int:
        return self._inner.granularity

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return self._inner.extents(offset, length)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        if offset <= self._at < offset + len(buffer) and self._times != 0:
            self._times -= 1
            raise self._failure
        self._inner.readinto(offset, buffer)

    def info(self) -> dict[str, Any]:
        return self._inner.info()

    def close(self) -> None:
        self._inner.close()


class MemorySink(BlockSink):
    """A sink into a bytearray that holds its caller to the contract: pieces aligned, in ascending order
    unless `random_access`, nothing after `finish`. `fail_at`: writing that offset raises `failure`."""

    def __init__(
        self, size: int, *, granularity: int = 65536, random_access: bool = False,
        fail_at: int = -1, failure: HyperError | None = None,
    ) -> None:  # fmt: skip
        self.data = bytearray(size)
        self.state = "open"
        self.random_access = random_access
        self._granularity = granularity
        self._fail_at = fail_at
        self._failure = failure
        self._next = 0

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def granularity(self) -> int:
        return self._granularity

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._take(offset, len(view))
        if self._failure is not None and offset <= self._fail_at < offset + len(view):
            raise self._failure
        self.data[offset : offset + len(view)] = view

    def zero(self, offset: int, length: int) -> None:
        self._take(offset, length)

    def checkpoint(self) -> dict[str, Any]:
        return {"next": self._next}

    def finish(self) -> dict[str, Any]:
        self._must_be_open()
        self.state = "finished"
        return {"allocated_bytes": len(self.data) - self.data.count(0)}

    def abort(self) -> None:
        self.state = "aborted"

    def _take(self, offset: int, length: int) -> None:
        self._must_be_open()
        end = offset + length
        if offset < 0 or end > self.size:
            raise OutOfRange(f"[{offset}, {end}) is not inside {self.size} bytes", reason="OFFSET_PAST_END")
        if offset % self._granularity or (end % self._granularity and end != self.size):
            raise AssertionError(f"piece [{offset}, {end}) is not aligned to {self._granularity}")
        if not self.random_access and offset < self._next:
            raise AssertionError(f"piece at {offset} comes after one that ended at {self._next}")
        self._next = max(self._next, end)

    def _must_be_open(self) -> None:
        if self.state != "open":
            raise FailedPrecondition(f"the sink is {self.state}", reason="SINK_CLOSED")

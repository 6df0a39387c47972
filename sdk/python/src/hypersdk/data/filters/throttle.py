"""Bandwidth limits: a token bucket, and a source and a sink that pay into it.

One bucket may serve several disks and threads. It is also a fitting `CopyHooks.throttle`, the better place when
a pipeline does the copying, because there it counts what was really moved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from hypersdk.data.extent import FileRange
from hypersdk.data.filters.forward import ForwardingSink, ForwardingSource
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.data.source import BlockSource
from hypersdk.errors import InvalidArgument


class TokenBucket:
    """`rate` bytes a second on average, bursts of up to `burst` bytes (default: a quarter of a second's). Calling it
    with a number of bytes sleeps until they may have moved; a debt larger than the bucket is slept off as well, so any
    piece size works. Thread-safe; `set_rate` takes effect with the next call."""

    def __init__(
        self,
        rate: float,
        burst: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._burst = burst
        self._at = clock()
        self._rate = _positive(rate)
        self._tokens = self._capacity()

    def set_rate(self, rate: float) -> None:
        """Bytes a second from now on, > 0."""
        with self._lock:
            self._earn()
            self._rate = _positive(rate)

    def __call__(self, nbytes: int) -> None:
        with self._lock:
            self._earn()
            self._tokens -= nbytes
            wait = -self._tokens / self._rate
        if wait > 0:
            self._sleep(wait)

    def _earn(self) -> None:
        now = self._clock()
        self._tokens = min(self._capacity(), self._tokens + (now - self._at) * self._rate)
        self._at = now

    def _capacity(self) -> float:
        return self._rate / 4 if self._burst is None else self._burst


def _positive(rate: float) -> float:
    if not rate > 0:
        raise InvalidArgument(f"a rate of {rate} bytes a second moves nothing", reason="RATE_INVALID")
    return rate


class ThrottledSource(ForwardingSource):
    """Every byte read, or told as a file range for somebody else to read, goes through `throttle` first."""

    def __init__(self, inner: BlockSource, throttle: Callable[[int], None]) -> None:
        super().__init__(inner)
        self._throttle = throttle

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._throttle(len(buffer))
        self._inner.readinto(offset, buffer)

    def file_ranges(self, offset: int, length: int) -> Iterator[FileRange] | None:
        found = self._inner.file_ranges(offset, length)
        if found is None:
            return None
        return self._paid(found)

    def _paid(self, ranges: Iterator[FileRange]) -> Iterator[FileRange]:
        for item in ranges:
            self._throttle(item.length)
            yield item


class ThrottledSink(ForwardingSink):
    """Every byte written goes through `throttle` first; zeros are free, encoded pieces count unencoded."""

    def __init__(self, inner: BlockSink, throttle: Callable[[int], None]) -> None:
        super().__init__(inner)
        self._throttle = throttle

    def write(self, offset: int, data: Buffer) -> None:
        self._throttle(len(data))
        self._inner.write(offset, data)

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        if not self._inner.write_file_range(offset, source):
            return False
        self._throttle(source.length)
        return True

    def encode(self, offset: int, data: Buffer) -> object:
        return len(data), self._inner.encode(offset, data)

    def write_encoded(self, offset: int, encoded: object) -> None:
        assert isinstance(encoded, tuple)
        length, inner = encoded
        self._throttle(length)
        self._inner.write_encoded(offset, inner)

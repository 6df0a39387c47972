"""MeteredSource and MeteredSink: how many calls, how many bytes, how long.

For reports and tests. Seconds are summed over threads, so they may exceed the wall's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hypersdk.data.extent import FileRange
from hypersdk.data.filters.forward import ForwardingSink, ForwardingSource
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.data.source import BlockSource


class Meter:
    """Totals of one side. `bytes` passed through memory, `file_bytes` were copied by the operating system."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.calls = 0
        self.bytes = 0
        self.file_bytes = 0
        self.zero_bytes = 0
        self.seconds = 0.0

    @contextmanager
    def timed(self, nbytes: int) -> Iterator[None]:
        """Count one call of `nbytes`, whether or not it fails."""
        started = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self.calls += 1
                self.bytes += nbytes
                self.seconds += self._clock() - started


class MeteredSource(ForwardingSource):
    """Counts reads in `meter`."""

    def __init__(self, inner: BlockSource, meter: Meter) -> None:
        super().__init__(inner)
        self.meter = meter

    def readinto(self, offset: int, buffer: memoryview) -> None:
        with self.meter.timed(len(buffer)):
            self._inner.readinto(offset, buffer)


class MeteredSink(ForwardingSink):
    """Counts writes in `meter`; an encoded piece counts as one call without bytes, which only the sink knows."""

    def __init__(self, inner: BlockSink, meter: Meter) -> None:
        super().__init__(inner)
        self.meter = meter

    def write(self, offset: int, data: Buffer) -> None:
        with self.meter.timed(len(data)):
            self._inner.write(offset, data)

    def write_encoded(self, offset: int, encoded: object) -> None:
        with self.meter.timed(0):
            self._inner.write_encoded(offset, encoded)

    def zero(self, offset: int, length: int) -> None:
        self._inner.zero(offset, length)
        self.meter.zero_bytes += length

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        with self.meter.timed(0):
            taken = self._inner.write_file_range(offset, source)
        if taken:
            self.meter.file_bytes += source.length
        return taken

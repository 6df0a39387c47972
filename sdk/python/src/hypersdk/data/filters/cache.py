"""CachedSource: the units that were read last stay decoded, for readers that come back in small steps.

A file system walker reads 4 KiB at a time; a compressed source would decode its 64 KiB unit for each. A pipeline, which
reads everything once, gains nothing from it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from hypersdk.data.filters.forward import ForwardingSource
from hypersdk.data.source import BlockSource
from hypersdk.errors import OutOfRange

_MIN_UNIT = 64 << 10
_MAX_UNIT = 2 << 20


class CachedSource(ForwardingSource):
    """Keeps at most `capacity` bytes, least recently used first out. The unit is the source's granularity, between
    64 KiB and 2 MiB. Two threads that miss one unit both read it: correct, and no read waits for another."""

    def __init__(self, inner: BlockSource, capacity: int = 16 << 20) -> None:
        super().__init__(inner)
        self._unit = max(_MIN_UNIT, min(inner.granularity, _MAX_UNIT))
        self._count = max(1, capacity // self._unit)
        self._units: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        if offset < 0 or offset + len(buffer) > self.size:
            raise OutOfRange(
                f"[{offset}, {offset + len(buffer)}) is not inside a disk of {self.size} bytes",
                reason="OFFSET_PAST_END",
            )
        if len(buffer) >= self._unit * self._count:
            self._inner.readinto(offset, buffer)  # would push out everything for bytes read once
            return
        done = 0
        while done < len(buffer):
            index, within = divmod(offset + done, self._unit)
            count = min(len(buffer) - done, self._unit - within)
            buffer[done : done + count] = self._get(index)[within : within + count]
            done += count

    def _get(self, index: int) -> bytes:
        with self._lock:
            found = self._units.get(index)
            if found is not None:
                self._units.move_to_end(index)
                return found
        start = index * self._unit
        fresh = bytearray(min(self._unit, self.size - start))
        self._inner.readinto(start, memoryview(fresh))
        with self._lock:
            self._units[index] = unit = bytes(fresh)
            while len(self._units) > self._count:
                self._units.popitem(last=False)
        return unit

"""Alarms: many things due at wall or monotonic times, one timer of the loop.

The timer never sleeps longer than LOOK_S, so that a wall clock which is set, or a machine that slept, delays nothing by
more. Tests advance their clock and call `ring_due`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from hypersdk_kernel.model.clock import Clock

LOOK_S = 30.0


class Alarms:
    """Its life: `set` and `clear`; `close`. `ring` is called on the loop, once for each key that is due, in order of
    time."""

    def __init__(self, clock: Clock, ring: Callable[[str], None], *, monotonic: bool = False) -> None:
        """`monotonic`: for lengths of time, which do not change when the wall clock is set."""
        self._now = clock.monotonic if monotonic else clock.now
        self._ring = ring
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._due)

    def when(self, key: str) -> float | None:
        return self._due.get(key)

    def set(self, key: str, when: float) -> None:
        """`key` is due at `when`, seconds, and at no other time."""
        if self._closed or self._due.get(key) == when:
            return
        self._due[key] = when
        heapq.heappush(self._heap, (when, key))
        if self._heap[0] == (when, key):
            self._arm()

    def clear(self, key: str) -> None:
        self._due.pop(key, None)

    def ring_due(self) -> None:
        """Ring what is due now."""
        now = self._now()
        while self._heap:
            when, key = self._heap[0]
            if self._due.get(key) != when:
                heapq.heappop(self._heap)  # cleared, or set to another time
                continue
            if when > now:
                break
            heapq.heappop(self._heap)
            del self._due[key]
            self._ring(key)
        self._arm()

    def open(self) -> None:
        """After `close`: empty, and of use again."""
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._due.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap and not self._closed:
            delay = min(max(0.0, self._heap[0][0] - self._now()), LOOK_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self.ring_due)

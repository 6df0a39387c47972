"""The bandwidth limit: a token bucket whose rate may change while others wait in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_S = 0.2
"""Seconds of unused bandwidth that may be made up for; more would let a resumed job swamp the link."""

_SHORTEST_WAIT_S = 0.001
"""Below it, waiting would be spinning, and rounding could keep a counter from ever moving."""
_LONGEST_WAIT_S = 3600.0
"""Above it, a wait may be too long for the platform's clock; it is waited for again."""


class TokenBucket:
    """Grants bytes in order of asking at `rate` bytes a second; 0 is no limit. Thread-safe.

    Two counters of bytes: `asked`, and `granted`, which runs after it at the rate. Whoever asks waits until
    `granted` has reached what `asked` was then: first come, first served, whatever the sizes.
    """

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._rate = rate
        self._asked = 0.0
        self._granted = rate * BURST_S
        self._at = clock()
        self._released = False

    def take(self, nbytes: int) -> None:
        """Account for `nbytes` that were moved; returns when the limit allows the next."""
        with self._changed:
            self._advance()
            self._asked += nbytes
            mine = self._asked
            while (wait_s := self._wait_s(mine)) > 0:
                self._changed.wait(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))
                self._advance()

    def set_rate(self, rate: int) -> None:
        """From now on. Those who wait are waited for at the new rate."""
        with self._changed:
            self._advance()
            self._rate = rate
            self._changed.notify_all()

    def release(self) -> None:
        """Nobody waits any more: the job was cancelled."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def _wait_s(self, position: float) -> float:
        if self._released or self._rate <= 0:
            return 0.0
        return (position - self._granted) / self._rate

    def _advance(self) -> None:
        now = self._clock()
        if self._rate > 0:
            ahead = self._asked + self._rate * BURST_S
            self._granted = min(self._granted + (now - self._at) * self._rate, ahead)
        else:
            self._granted = self._asked
        self._at = now

"""RetryingSource: reads that failed for a passing reason are repeated.

Reading is idempotent, so this is safe for every source. Only errors that say `retryable` are repeated; corrupt or
truncated data is not, however often one looks at it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from hypersdk.data.extent import Extent
from hypersdk.data.filters.forward import ForwardingSource
from hypersdk.data.source import BlockSource
from hypersdk.errors import HyperError

T = TypeVar("T")

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 8.0


class RetryingSource(ForwardingSource):
    """At most `attempts` tries of each call, with pauses of 0.1 s × 2ⁿ, at most 8 s, half of it random so that many
    readers do not come back at once; or as long as the peer asked for. The last error is raised as it is."""

    def __init__(
        self,
        inner: BlockSource,
        *,
        attempts: int = 5,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(inner)
        self._attempts = attempts
        self._sleep = sleep
        self._jitter = jitter

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._repeat(lambda: self._inner.readinto(offset, buffer))

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Goes on behind the last extent that was yielded, so none comes twice."""
        end = self.size if length is None else offset + length
        at = offset
        failures = 0
        while True:
            try:
                for extent in self._inner.extents(at, end - at):
                    failures = 0
                    yield extent
                    at = extent.end
            except HyperError as exc:
                failures += 1
                self._pause(exc, failures)
            else:
                return

    def _repeat(self, call: Callable[[], T]) -> T:
        failures = 0
        while True:
            try:
                return call()
            except HyperError as exc:
                failures += 1
                self._pause(exc, failures)

    def _pause(self, exc: HyperError, failures: int) -> None:
        """Sleep before the next try, or raise `exc` when there is none."""
        if not exc.retryable or failures >= self._attempts:
            raise exc
        delay = min(_MAX_DELAY_S, _FIRST_DELAY_S * 2 ** (failures - 1))
        self._sleep(exc.retry_after_s if exc.retry_after_s is not None else delay * (0.5 + self._jitter() / 2))

"""ClockWatch: notices that the wall clock was set, or that the machine slept, by comparing it with the monotonic clock.

What is due at a time of the calendar was reckoned by the clock as it stood: after a step it may be due already, or be a
day away although it is not (a window that closed only because the clock was wrong). Lengths of time are measured by the
monotonic clock and need none of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.model.clock import Clock

log = structlog.get_logger(__name__)

LOOK_S = 2.0
_STEP_S = 1.0
"""Less is no step: clocks are slewed by 0.5 ms a second, and the two are not read in the same instant."""


class ClockWatch:
    """Its life: `start`, `stop`. `on_step` is called on the loop with the seconds by which the clock was set, negative
    when backwards. Tests call `look`."""

    def __init__(self, clock: Clock) -> None:
        self.on_step: list[Callable[[float], None]] = []
        self._clock = clock
        self._ahead = self._read()
        self._background = Background()

    async def start(self) -> None:
        self._ahead = self._read()
        self._background.spawn(self._run())

    async def stop(self) -> None:
        await self._background.stop()

    def look(self) -> None:
        """Tell of a step since the last look."""
        before, self._ahead = self._ahead, self._read()
        step = self._ahead - before
        if abs(step) < _STEP_S:
            return
        log.warning("clock_set", seconds=round(step, 3))
        for listener in self.on_step:
            listener(step)

    def _read(self) -> float:
        return self._clock.now() - self._clock.monotonic()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:  # a listener's defect must not make us blind for the next step
                log.exception("clock_step_failed")

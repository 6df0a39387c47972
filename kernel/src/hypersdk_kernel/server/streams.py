"""Long answers: how many may be open, and how they end when the daemon stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from hypersdk.errors import ResourceExhausted, Unavailable

_BY_THEMSELVES_S = 0.5


class Streams:
    """Counts the tasks that answer streams. `drain` ends them: first those that end by themselves, then the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    @property
    def count(self) -> int:
        return len(self._tasks)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Room for the stream that the current task answers. Raises ResourceExhausted (TOO_MANY_STREAMS), Unavailable
        (KERNEL_STOPPING)."""
        if self.draining:
            raise stopping()
        if len(self._tasks) >= self._limit:
            raise ResourceExhausted(
                f"{self._limit} streams are open, which is the limit; close some, or raise max_streams",
                reason="TOO_MANY_STREAMS",
                retry_after_s=5.0,
            )
        task = asyncio.current_task()
        assert task is not None, "a call is answered in a task"
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def drain(self) -> None:
        """End every stream; new ones are refused."""
        self.draining = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=_BY_THEMSELVES_S)
        for task in tuple(self._tasks):
            task.cancel()


def stopping() -> Unavailable:
    """What a stream's reader is told when the daemon stops."""
    return Unavailable(
        "the kernel is stopping; resume with the last revision when it is back",
        reason="KERNEL_STOPPING",
        retry_after_s=1.0,
    )

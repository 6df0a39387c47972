"""Long answers: how many may be open, how they share the loop, and how they end when the daemon stops.

A thousand streams that write whenever they can leave the loop no time to take new calls, as gRPC gives them out one in
each turn of it: a call that had not been taken in 30 s ended in a bare CANCELLED. So pages are written in turns, by a
few streams at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Iterator

from hypersdk.errors import ResourceExhausted, Unavailable

from hypersdk_kernel.services.streaming import Part

_BY_THEMSELVES_S = 0.5
WRITERS = 8
"""Streams that write pages at once. More do not write faster, and each adds some 50 µs to a turn of the loop."""
TURN = 32
"""Messages written in one turn: 8 streams take some 15 ms."""
STALLED_S = 0.05
"""After so long the next stream gets the turn of one whose reader does not read; that one goes on beside it."""

Write = Callable[[bytes], Awaitable[None]]


class Turns:
    """Lets `writers` at a time write; of those that wait the one that had the fewest turns is next, so that a small
    answer is not held up by a thousand large ones."""

    def __init__(self, writers: int = WRITERS) -> None:
        self._free = writers
        self._asked = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    async def take(self, had: int) -> Callable[[], None]:
        """Wait for a turn; what is returned gives it back, once, and is called after STALLED_S at the latest."""
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            self._asked += 1
            mine: asyncio.Future[None] = loop.create_future()
            heapq.heappush(self._waiting, (had, self._asked, mine))
            try:
                await mine
            except asyncio.CancelledError:
                if not mine.cancelled():
                    self._pass_on()
                raise
        timer: asyncio.TimerHandle | None = None

        def give_back() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
                timer = None
                self._pass_on()

        timer = loop.call_later(STALLED_S, give_back)
        return give_back

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, next_one = heapq.heappop(self._waiting)
            if not next_one.done():
                next_one.set_result(None)
                return
        self._free += 1


class Stream:
    """One answer."""

    def __init__(self, turns: Turns, write: Write) -> None:
        self._turns = turns
        self._write = write
        self._had = 0

    async def send(self, part: Part) -> None:
        """Returns when the reader has room for more."""
        if not isinstance(part, tuple):
            await self._write(part.SerializeToString())
        elif len(part) == 1:
            await self._write(part[0])
        else:
            for first in range(0, len(part), TURN):
                await self._send_some(part[first : first + TURN])

    async def _send_some(self, messages: tuple[bytes, ...]) -> None:
        give_back = await self._turns.take(self._had)
        self._had += 1
        try:
            for message in messages:
                await self._write(message)
        finally:
            give_back()


class Streams:
    """Counts the tasks that answer streams. `drain` ends them: first those that end by themselves, then the rest."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = Turns()
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

    def stream(self, write: Write) -> Stream:
        """The one that the current task answers."""
        return Stream(self._turns, write)

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

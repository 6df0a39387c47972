"""Scheduler: the clock loop. It knows when each schedule is next due, sleeps until the earliest, and fires what is due.

In memory there are a time and an id for each schedule, in a heap; everything else is read when it is due. Every change
of a schedule, whoever made it, comes as an event that tells its next time. It sleeps on the loop's monotonic clock,
which neither follows the wall clock when that is set nor runs while the machine is suspended, so it is woken when that
has happened (`clock_set`), and looks again at least every 30 s.

One kernel runs this at a time (the leader). Two that did would still make each job once: see firing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.engine.firing import Firing
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.schedule import advanced, plan
from hypersdk_kernel.store import schedules as rows
from hypersdk_kernel.store.engine import Store

log = structlog.get_logger(__name__)

LONGEST_SLEEP_S = 30.0
BATCH = 100
"""Schedules dealt with in one turn; others' writes get in between."""
_RETRY_S = 5.0
_LONGEST_RETRY_S = 60.0
"""Delays double up to this: in maintenance, or on a full disk, thousands may be waiting."""
_BROKEN_S = 60.0


class Scheduler:
    """Its life: `start`, `stop`. `tick` is one turn, and what tests drive."""

    def __init__(self, store: Store, clock: Clock, firing: Firing) -> None:
        self._store = store
        self._clock = clock
        self._firing = firing
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float | None] = {}
        self._failures: dict[str, int] = {}
        """In a row, of those that could not be dealt with."""
        self._wake = asyncio.Event()
        self._asleep_until = 0.0
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Learn the next times: from the store, and from now on from its events."""
        self._heap.clear()
        self._due.clear()
        self._failures.clear()
        self._store.on_commit.append(self._hear)
        for due, schedule_id in await self._store.read(rows.due_times):
            if schedule_id not in self._due:  # an event was quicker
                self._set(schedule_id, due)

    async def start(self) -> None:
        await self.load()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Fire nothing more. What is being created is created, or due at the next start."""
        if self._hear in self._store.on_commit:
            self._store.on_commit.remove(self._hear)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def clock_set(self, _step: float) -> None:
        """Something may be due already. What is due later by a clock that was set back needs no haste."""
        self._wake.set()

    @property
    def next_due(self) -> float | None:
        """Wall time of the earliest."""
        while self._heap:
            due, schedule_id = self._heap[0]
            if self._due.get(schedule_id) == due:
                return due
            heapq.heappop(self._heap)
        return None

    async def tick(self) -> None:
        """Deal with what is due now, at most BATCH schedules."""
        now = self._clock.now()
        taken: list[str] = []
        while len(taken) < BATCH and (due := self.next_due) is not None and due <= now:
            _, schedule_id = heapq.heappop(self._heap)
            self._due[schedule_id] = None
            taken.append(schedule_id)
        await asyncio.gather(*(self._handle(schedule_id, now) for schedule_id in taken))

    async def _handle(self, schedule_id: str, now: float) -> None:
        try:
            await self._fire(schedule_id, now)
            self._failures.pop(schedule_id, None)
        except HyperError as exc:
            failures = self._failures[schedule_id] = self._failures.get(schedule_id, 0) + 1
            log.warning(
                "schedule_delayed", schedule=f"schedules/{schedule_id}", reason=exc.reason, message=exc.message
            )
            self._set(schedule_id, now + min(_RETRY_S * 2.0 ** min(failures - 1, 10), _LONGEST_RETRY_S))
        except Exception:  # a defect in one schedule must not stop the others; it is logged, and tried again
            log.exception("schedule_broken", schedule=f"schedules/{schedule_id}")
            self._set(schedule_id, now + _BROKEN_S)

    async def _fire(self, schedule_id: str, now: float) -> None:
        schedule = await self._store.near(lambda conn: rows.get(conn, schedule_id))
        if schedule is None:
            self._due.pop(schedule_id, None)
            return
        todo = plan(schedule, now)
        if todo is None:  # it was changed, or the time zone's rules were
            following = advanced(schedule, schedule.status.cursor).status.next_start_time
            self._set(schedule_id, None if following is None else max(following, now + 1.0))
            return
        await self._firing.give_up(schedule, todo)
        for number, occurrence in enumerate(todo.run):
            if number:
                schedule = await self._store.near(lambda conn: rows.get(conn, schedule_id))
                if schedule is None:
                    return
            await self._firing.fire(schedule, occurrence)

    async def _run(self) -> None:
        while True:
            await self.tick()
            now, due = self._clock.now(), self.next_due
            delay = LONGEST_SLEEP_S if due is None else min(max(due - now, 0.0), LONGEST_SLEEP_S)
            self._asleep_until = now + delay
            self._wake.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.type.startswith("schedule."):
                schedule_id = event.subject.partition("/")[2]
                if event.type == "schedule.deleted":
                    self._due.pop(schedule_id, None)
                elif "next_start_time" in event.payload:
                    self._set(schedule_id, event.payload["next_start_time"])

    def _set(self, schedule_id: str, due: float | None) -> None:
        self._due[schedule_id] = due
        if due is None:
            return
        heapq.heappush(self._heap, (due, schedule_id))
        if len(self._heap) > 2 * len(self._due) + BATCH:  # superseded entries
            self._heap = [(when, i) for i, when in self._due.items() if when is not None]
            heapq.heapify(self._heap)
        if due < self._asleep_until:
            self._wake.set()

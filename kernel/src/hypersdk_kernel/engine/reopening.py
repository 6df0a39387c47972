"""Reopening: what stands still because its window closed goes on when that opens.

Not here: pausing it (overrun, dispatcher).
"""

from __future__ import annotations

from hypersdk_kernel.engine.alarms import Alarms
from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.engine.overrun import WINDOW
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store import codec


class Reopening:
    """Its life: `start`, then `notice` on every commit; `stop`."""

    def __init__(self, clock: Clock, windows: WindowBook, jobs: Jobs) -> None:
        self.alarms = Alarms(clock, self._ring)
        self._clock = clock
        self._windows = windows
        self._jobs = jobs
        self._background = Background()
        self._window_of: dict[str, str] = {}
        self._active = False
        windows.changed.append(self._reckon)

    async def start(self) -> None:
        """Those that an earlier kernel paused."""
        self._active = True
        self.alarms.open()
        for job in await self._jobs.in_state(JobState.PAUSED):
            self._consider(job)

    def notice(self, events: list[Event]) -> None:
        """Store.on_commit."""
        if not self._active:
            return  # the leader's business
        for event in events:
            if event.type == "job.paused":
                job = codec.job_of(event.payload)
                if job is not None:
                    self._consider(job)

    async def stop(self) -> None:
        self._active = False
        self.alarms.close()
        self._window_of.clear()
        await self._background.stop()

    def _consider(self, job: Job) -> None:
        if job.state is JobState.PAUSED and job.paused_by == WINDOW:
            self._window_of[job.id] = job.window
            self._set(job.id)

    def _reckon(self) -> None:
        for job_id in list(self._window_of):
            self._set(job_id)

    def _set(self, job_id: str) -> None:
        when = self._windows.reopening(self._window_of[job_id], self._clock.now())
        if when is None:
            self.alarms.clear(job_id)
        else:
            self.alarms.set(job_id, when)

    def _ring(self, job_id: str) -> None:
        self._background.persist(f"jobs/{job_id}", lambda: self._resume(job_id))

    async def _resume(self, job_id: str) -> None:
        self._window_of.pop(job_id, None)
        job = (await self._jobs.some([job_id])).get(job_id)
        if job is not None and job.state is JobState.PAUSED and job.paused_by == WINDOW:
            await self._jobs.resume(job_id, actor="kernel")

"""Overrun: what runs longer than it may is stopped: past its deadline, past its run time, out of its window.

Not here: how a runner is stopped and what that makes of the job (dispatcher, ending).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from hypersdk.errors import HyperError

from hypersdk_kernel.engine.alarms import Alarms
from hypersdk_kernel.engine.timegate import deadline_passed, run_time_exceeded
from hypersdk_kernel.engine.transitions import change, load, note
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobEvent, JobState
from hypersdk_kernel.store.engine import Tx


@dataclass(frozen=True, slots=True)
class Stop:
    """Why an attempt is stopped, and what becomes of the job then: it fails, is cancelled, or waits and goes on from
    its checkpoint later; `pause` leaves the runner where it stands."""

    then: Literal["fail", "cancel", "wait", "pause"]
    error: HyperError


WINDOW = "window"
"""Job.paused_by of what stands still until its window opens."""


class Closing(Protocol):
    """Who knows of another end: a window."""

    def closing(self, job: Job, now: float) -> tuple[float, Stop] | None:
        """When `job`, which runs, is to be stopped, and how."""
        ...


class Overrun:
    """Its life: `watch` each attempt that runs, `forget` it at its end; `close`. `stop` is called when it is time."""

    def __init__(self, clock: Clock, stop: Callable[[str, Stop], None]) -> None:
        self.closings: list[Closing] = []
        self._clock = clock
        self._stop = stop
        self._alarms = Alarms(clock, self._ring)
        self._began: dict[str, tuple[int, float]] = {}
        """By job id: the attempt, and the monotonic time at which it began: however the wall clock is set meanwhile, it
        runs no longer and no shorter for that."""
        self.jobs: dict[str, Job] = {}
        """What runs or is paused with its runner, as it was when it was watched last."""

    def watch(self, job: Job) -> None:
        """`job` is RUNNING. Again, when something about its end has changed."""
        self.jobs[job.id] = job
        if self._began.get(job.id, (0, 0.0))[0] != job.attempt_count:
            ran_s = max(self._clock.now() - (job.attempt_start or math.inf), 0.0)
            self._began[job.id] = job.attempt_count, self._clock.monotonic() - ran_s
        found = self._end(job)
        if found is None:
            self._alarms.clear(job.id)
        else:
            self._alarms.set(job.id, found[0])

    def again(self) -> None:
        """Windows have changed, or the clock was set: reckon anew when each is to stop."""
        for job in list(self.jobs.values()):
            self.watch(job)

    def forget(self, job_id: str) -> None:
        self._alarms.clear(job_id)
        self.jobs.pop(job_id, None)
        self._began.pop(job_id, None)

    def ring_due(self) -> None:
        """For tests with a clock of their own."""
        self._alarms.ring_due()

    def open(self) -> None:
        self._alarms.open()

    def close(self) -> None:
        self._alarms.close()
        self.jobs.clear()
        self._began.clear()

    def _end(self, job: Job) -> tuple[float, Stop] | None:
        ends: list[tuple[float, Stop]] = []
        if job.deadline is not None:
            ends.append((job.deadline, Stop("fail", deadline_passed(job))))
        if job.state is JobState.PAUSED:
            return ends[0] if ends else None
        now = self._clock.now()
        if job.max_run_s:
            left_s = self._began[job.id][1] + job.max_run_s - self._clock.monotonic()
            ends.append((now + left_s, Stop("fail", run_time_exceeded(job))))
        ends += [end for closing in self.closings if (end := closing.closing(job, now)) is not None]
        return min(ends, key=lambda end: end[0], default=None)

    def _ring(self, job_id: str) -> None:
        job = self.jobs.get(job_id)
        found = None if job is None else self._end(job)
        if job is None or found is None:
            return
        if found[0] > self._clock.now():
            self._alarms.set(job_id, found[0])
            return
        self._stop(job_id, found[1])


def note_stop(tx: Tx, job_id: str, stop: Stop) -> Job:
    """Write that the attempt is to be stopped, and why. A job that has ended or is being cancelled stays as it is."""
    job = load(tx, job_id)
    if job.state not in {JobState.RUNNING, JobState.PAUSED} or job.cancel_requested or job.stop is not None:
        return job
    return note(
        tx,
        replace(job, state_message=stop.error.message),
        "job.stop_requested",
        "kernel",
        stop={"then": stop.then, "error": stop.error.to_json()},
    )


def pause_for_window(tx: Tx, job_id: str, stop: Stop) -> Job:
    """Write that a running job stands still. Raises FailedPrecondition (JOB_STATE) when it does not run any more."""
    job = load(tx, job_id)
    return change(tx, job, JobEvent.PAUSE, "kernel", stop.error.message, paused_by=WINDOW)

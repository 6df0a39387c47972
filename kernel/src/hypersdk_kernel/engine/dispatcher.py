"""Dispatcher: starts attempts while there is room, settles how they end, adopts what an earlier kernel started.

The order of things is what makes a job run once and never get lost:

    1. the attempt and the state RUNNING are in the store before the process exists;
    2. the process holds the job's lock from before its first instruction to its last;
    3. its outcome is in its synced journal before anybody acts on it;
    4. the job's new state is in the store before its run directory is touched.

After a crash at any point the store says RUNNING or RETRYING, and lock and journal say the rest.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import HyperError, Unavailable, from_exception, from_json

from hypersdk_kernel.engine import takeup, taskspec
from hypersdk_kernel.engine.admission import Admission
from hypersdk_kernel.engine.alarms import Alarms
from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.engine.beginning import begin
from hypersdk_kernel.engine.briefdesk import BriefDesk
from hypersdk_kernel.engine.briefpool import BriefPool
from hypersdk_kernel.engine.briefs import PLACE
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.ending import Cleaner, decide, end
from hypersdk_kernel.engine.execution import Execution
from hypersdk_kernel.engine.overrun import Overrun, Stop, note_stop, pause_for_window
from hypersdk_kernel.engine.placing import Placing
from hypersdk_kernel.engine.prepare import Preparer
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.engine.runner import Outcome, Runner, progress_from_wire
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.engine.timegate import TimeGate
from hypersdk_kernel.engine.transitions import change, load
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobEvent, JobState, Progress
from hypersdk_kernel.model.plugin import Generation
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.errors import of_store

log = structlog.get_logger(__name__)

_REST_S = 2.0


class Dispatcher:
    """See the module's docstring. Its life: `start` (reconciles, then dispatches), `stop` (runners go on), and again:
    where there are several kernels only the leader's is active. One that is not knows of no job and does nothing."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: taskspec.Registry,
        connections: Connections,
        runs: Path,
        settings: RunnerSettings,
        verify: Callable[[Generation], None] = lambda _generation: None,
        host_command: Callable[[Generation], Sequence[str]] = lambda _generation: (),
    ) -> None:
        """`verify` and `host_command`: see Preparer."""
        self.settings = settings
        self.draining = False
        self._resting = False
        """Nothing can be begun just now: the store or the folder of runs is in trouble."""
        self.maintenance = False
        """An operator wants nothing to start; what runs goes on."""
        self.on_progress: list[Callable[[str, Progress], None]] = []
        self.on_running: list[Callable[[], None]] = []
        """Called whenever something starts, ends, pauses or goes on."""
        self._store = store.leading
        self._active = False
        self._clock = clock
        self._preparer = Preparer(
            registry, connections, runs, verify, host_command, confined=settings.confined
        )
        self.placing = Placing(self._preparer, clock, settings)
        self._cleaner = Cleaner(clock, self._preparer.spec, settings.cancel_grace_s)
        self.runners: dict[str, Execution] = {}
        """What runs or is paused, by job id."""
        self._starting: set[str] = set()
        pool = BriefPool(runs / "brief", settings.brief_workers, self._preparer.confine)
        self._briefs = BriefDesk(self, self._store, clock, self._preparer, pool)
        self._retries = Alarms(clock, self._due, monotonic=True)
        self._pumping = Alarms(clock, lambda _: self.pump())
        self._background = Background()
        self.admission = Admission(self._store, clock, self._preparer.facts, self._background.persist, self.pump)
        self.admission.gates.append(TimeGate())
        self.persist = self._background.persist
        self.overrun = Overrun(clock, self._stop_running)
        self.queue = self.admission.queue

    # What Jobs asks.

    def runner(self, job_id: str) -> Execution | None:
        return self.runners.get(job_id)

    def starting(self, job_id: str) -> bool:
        """Is its runner being prepared right now?"""
        return job_id in self._starting or self._briefs.starting(job_id)

    def moving(self) -> dict[str, tuple[Job, Execution]]:
        """What moves data now, by job id."""
        watched = self.overrun.jobs
        found = {i: r for i, r in self.runners.items() if i not in self._briefs.jobs}
        return {i: (watched[i], r) for i, r in found.items() if not r.paused and i in watched}

    @property
    def active(self) -> bool:
        """Is it this kernel that dispatches?"""
        return self._active

    @property
    def running(self) -> int:
        """Attempts that move data now; paused ones do not count."""
        own = (r for i, r in self.runners.items() if i not in self._briefs.jobs)
        return len(self._starting) + sum(not r.paused for r in own)

    def rundir(self, uid: str) -> RunDir:
        return self._preparer.rundir(uid)

    def ready(self, job: Job) -> None:
        """`job` is QUEUED or WAITING, and in the store: start it when nothing keeps it back and there is room."""
        if self._active:
            self.admission.take(job)
            self.pump()

    def later(self, job: Job) -> None:
        """`job` is RETRYING: queue it again when its time has come."""
        self.forget(job.id)
        self._retries.set(job.id, self._clock.monotonic() + self._wait_s(job))

    def _wait_s(self, job: Job) -> float:
        """Until a RETRYING job's next attempt: as its policy said, also when the clock was set back since."""
        left_s = max((job.next_attempt_time or 0.0) - self._clock.now(), 0.0)
        hint_s = from_json(job.error).retry_after_s if job.error else None
        return min(left_s, job.retry.delay_s(max(job.attempt_count, 1), 1.0, hint_s))

    def clock_set(self, step: float) -> None:
        """The wall clock was set by `step` seconds."""
        if step < 0:
            self.queue.set_back(self._clock.now(), -step)
        self.admission.alarms.ring_due()
        self.overrun.ring_due()
        self.pump()

    def forget(self, job_id: str) -> None:
        """The job is neither queued nor due any more."""
        self.admission.forget(job_id)
        self._retries.clear(job_id)

    def paused(self, job: Job) -> None:
        """Its runner stands still: what it took is free for others. Its deadline stays."""
        self.queue.ended(job.id)
        self.overrun.watch(job)
        self._told()
        self.pump()

    def resumed(self, job: Job) -> None:
        """Its runner goes on, whatever the limits say."""
        self.queue.started(job.id, self._preparer.facts(job), self._clock.now())
        self.overrun.watch(job)
        self._told()

    def pump(self) -> None:
        """Start what there is room for."""
        if not self._active or self.draining or self.maintenance or self._resting:
            return
        now = self._clock.now()
        while self.running < self.settings.max_runners and (job_id := self.queue.pop(now)) is not None:
            self._starting.add(job_id)
            self._background.spawn(self._run(job_id))
        self._briefs.pump(now)
        release = self.queue.next_release(now)
        if release is not None:
            self._pumping.set("pump", release)

    def end_without_runner(self, job: Job) -> None:
        """Finish the cancellation of a job that nothing runs for."""
        if not self._active:
            return  # the leader hears of it from the store
        self.forget(job.id)
        self._background.persist(job.name, lambda: self._settle(job, None, Outcome("cancelled")))

    async def start(self) -> None:
        """Take up what the store says is unfinished: what had begun, and the first that wait, before this returns, the
        rest beside whatever else goes on."""
        self._active = True
        self.placing.began()
        for opened in (self._retries, self._pumping, self.admission, self.overrun):
            opened.open()
        briefs: list[tuple[Job, str]] = []
        async for job, attempt in takeup.begun(self._store):
            if job.cancel_requested and attempt is None:
                self.end_without_runner(job)
            elif job.state is JobState.RETRYING:
                self.later(job)
            elif attempt is not None and attempt.place.startswith(PLACE):
                briefs.append((job, attempt.place.removeprefix(PLACE)))
            elif attempt is not None and not self.placing.reached(job, attempt):
                self._background.spawn(self._lose(job))
            elif attempt is not None:
                self._background.spawn(self._adopt(job))
        await self._briefs.recover(briefs)
        waiting = takeup.waiting(self._store)
        await takeup.take(self, waiting, takeup.PAGE)
        self._background.spawn(takeup.take(self, waiting))

    async def stop(self) -> None:
        """No more starts; let go of the runners, which go on."""
        self._active = False
        self.placing.ended()
        for closed in (self._retries, self._pumping, self.admission, self.overrun):
            closed.close()
        await self._briefs.stop()
        await self._background.stop()
        self.runners.clear()
        self._starting.clear()

    # Starting.

    def _due(self, job_id: str) -> None:
        async def requeue() -> None:
            job = await self._store.write(
                lambda tx: change(tx, load(tx, job_id), JobEvent.REQUEUE, "kernel", next_attempt_time=None)
            )
            self.ready(job)

        self._background.persist(f"jobs/{job_id}", requeue)

    async def _run(self, job_id: str) -> None:
        """One attempt, from the queue to its settled end."""
        try:
            started = await self._start_attempt(job_id)
        finally:
            self._starting.discard(job_id)
            if job_id not in self.runners:
                self.queue.ended(job_id)
        if started is not None:
            await self._follow(*started)
        self.pump()

    async def _start_attempt(self, job_id: str) -> tuple[Job, Runner] | None:
        try:
            job = await self._store.near(lambda conn: rows.get(conn, job_id))
        except HyperError as exc:
            await self.start_failed(job_id, exc, begun=False)
            return None
        if job is None or job.state is not JobState.QUEUED:
            return None
        if job.cancel_requested:
            self.end_without_runner(job)
            return None
        if self.admission.judge(job) is not None:  # a gate has closed since it was queued
            self.admission.take(job)
            return None
        rundir = self.rundir(job.uid)
        lock_fd = None
        begun = False
        try:
            self.placing.check(job)
            components, spec = await self._preparer.prepare(job)
            number = job.attempt_count + 1
            try:
                rundir.prepare(number)
                lock_fd = rundir.lock()
            except OSError as exc:  # a full or read-only disk is no fault of the job's
                self._rest(job, from_exception(exc, doing="preparing the run directory"))
                return None
            if lock_fd is None:
                self._retry_start(job, "its last runner has not let go yet")
                return None
            running = await self._store.write(lambda tx: begin(tx, job_id, components, self.placing.place(job)))
            begun = True
            runner = self._new_runner(running, number)
            self.runners[job_id] = runner
            runner.launch({**spec, **self.placing.own_fields(running, number)}, lock_fd)
        except (HyperError, OSError) as exc:
            self.runners.pop(job_id, None)
            await self.start_failed(job_id, from_exception(exc, doing="starting the runner"), begun=begun)
            return None
        finally:
            if lock_fd is not None:
                os.close(lock_fd)
        if running.cancel_requested:
            self.ask_cancel(runner, "cancelled while it was being started")
        self.overrun.watch(running)
        self._told()
        log.info("attempt_started", job=job.name, attempt=number, pid=runner.pid)
        return running, runner

    def _new_runner(self, job: Job, number: int) -> Runner:
        def tell(progress: Progress) -> None:
            for listener in self.on_progress:
                listener(job.id, progress)

        return self.placing.runner(job, number, tell)

    def _retry_start(self, job: Job, why: str) -> None:
        log.info("attempt_delayed", job=job.name, why=why)
        asyncio.get_running_loop().call_later(0.5, self.ready, job)

    def _rest(self, job: Job, error: HyperError) -> None:
        """Begin nothing for a while, and `job` then."""
        log.warning("starts_delayed", job=job.name, reason=error.reason, message=error.message)
        if not self._resting:
            self._resting = True
            asyncio.get_running_loop().call_later(_REST_S, self._rested)
        self.ready(job)

    def _rested(self) -> None:
        self._resting = False
        self.pump()

    def _stop_running(self, job_id: str, stop: Stop) -> None:
        """What runs longer than it may is stopped; why is in the store before the runner hears of it."""
        runner = self.runners.get(job_id)
        if runner is None:
            return

        async def write() -> None:
            if stop.then == "pause":
                paused = await self._store.write(lambda tx: pause_for_window(tx, job_id, stop))
                runner.pause()
                self.paused(paused)
                return
            await self._store.write(lambda tx: note_stop(tx, job_id, stop))
            self.ask_cancel(runner, stop.error.message)

        self._background.persist(f"jobs/{job_id}", write)

    async def start_failed(self, job_id: str, error: HyperError, *, begun: bool) -> None:
        """Nothing was started. `begun`: the store has the attempt. Else the job is QUEUED still, or was cancelled or
        paused in the meantime, and then that stands; or the store lost its answer, and has the attempt after all."""
        log.warning("attempt_start_failed", job=f"jobs/{job_id}", reason=error.reason, message=error.message)

        async def settle() -> None:
            job = await self._store.near(lambda conn: rows.get(conn, job_id))
            if job is None or job.terminal:
                return
            if begun:
                await self._settle(job, None, Outcome("failed", error=error.to_json()))
            elif job.state is JobState.RUNNING and job_id not in self.runners:
                await self._settle(job, None, Outcome("lost", error=error.to_json()))
            elif job.state is JobState.QUEUED and of_store(error):
                self._rest(job, error)
            elif job.state is JobState.QUEUED and error.retryable:
                self._retry_start(job, error.message)
            elif job.state is JobState.QUEUED:
                failure: dict[str, Any] = {"message": error.message, "error": error.to_json()}
                await self._store.write(lambda tx: change(tx, load(tx, job_id), JobEvent.FAIL, "kernel", **failure))

        await self._background.until_stored(f"jobs/{job_id}", settle)

    def _told(self) -> None:
        for listener in self.on_running:
            listener()

    # Following and ending.

    async def _adopt(self, job: Job) -> None:
        """An attempt that an earlier kernel started: alive, finished, or dead."""
        runner = self._new_runner(job, job.attempt_count)
        self.runners[job.id] = runner
        self.overrun.watch(job)
        if not runner.paused:
            self.queue.started(job.id, self._preparer.facts(job), self._clock.now())
        if job.stop is not None:
            self.ask_cancel(runner, "stopped before the kernel restarted")
        elif job.cancel_requested:
            self.ask_cancel(runner, "cancelled before the kernel restarted")
        log.info("attempt_adopted", job=job.name, attempt=job.attempt_count, alive=runner.rundir.alive())
        await self._follow(job, runner)
        self.pump()

    async def _lose(self, job: Job) -> None:
        """An attempt in a folder of runs that is not here: nobody can ask its runner, which ends itself by then."""
        wait_s = self.placing.lost_after_s(job)
        log.info("attempt_elsewhere", job=job.name, attempt=job.attempt_count, wait_s=wait_s)
        await asyncio.sleep(wait_s)
        error = Unavailable(
            f"attempt {job.attempt_count} ran on another machine, whose kernel leads no more", reason="RUNNER_LOST"
        )
        outcome = Outcome("lost", None, error.to_json())
        await self._background.until_stored(job.name, lambda: self._settle(job, None, outcome))

    def ask_cancel(self, runner: Execution, reason: str) -> None:
        """Ask a runner to stop, and kill it when it does not."""
        runner.cancel(reason)
        asyncio.get_running_loop().call_later(self.settings.cancel_grace_s, runner.kill)

    async def _follow(self, job: Job, runner: Runner) -> None:
        outcome = await runner.outcome()
        try:
            await self._background.until_stored(job.name, lambda: self._settle(job, runner, outcome))
        finally:
            if self.runners.get(job.id) is runner:
                del self.runners[job.id]
                self.queue.ended(job.id)
                self.overrun.forget(job.id)
                self._told()

    async def _settle(self, job: Job, runner: Runner | None, outcome: Outcome) -> None:
        """Turn an outcome into the job's next state. Safe to repeat."""
        current = await self._store.near(lambda conn: rows.get(conn, job.id))
        if current is None or current.terminal:
            return
        decision = decide(current, outcome, random.random(), self._clock.now())  # noqa: S311 - spreads retries, protects nothing
        if decision[0] is not JobEvent.FAIL_RETRYABLE:
            await self._cleaner.clean_up(current, self.rundir(job.uid), runner)
        progress = _final_progress(runner, outcome, self._clock.now())
        ended = await self._store.write(lambda tx: end(tx, job.id, outcome, decision, progress))
        log.info(
            "attempt_ended", job=job.name, attempt=ended.attempt_count, status=outcome.status, state=ended.state.value
        )
        if ended.state is JobState.RETRYING:
            self.later(ended)
        elif ended.terminal:
            await asyncio.to_thread(self.rundir(job.uid).forget_work)


def _final_progress(runner: Runner | None, outcome: Outcome, now: float) -> Progress | None:
    if runner is not None and runner.progress is not None:
        return replace(runner.progress, rate_bytes=0)
    return None if outcome.journal.progress is None else progress_from_wire(outcome.journal.progress, now)

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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import HyperError, from_exception

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.ending import Cleaner, decide, end, open_attempt
from hypersdk_kernel.engine.queue import ReadyQueue
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.engine.runner import Outcome, Runner, progress_from_wire
from hypersdk_kernel.engine.transitions import change, load
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import AttemptState, Job, JobEvent, JobState, Progress
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store, Tx

log = structlog.get_logger(__name__)

_PROTOCOL = 1
_STORE_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """max_runners: attempts that move data at once. cancel_grace_s: from asking a runner to stop to killing it."""

    max_runners: int = 4
    cancel_grace_s: float = 30.0


class Dispatcher:
    """See the module's docstring. Its life: `start` (reconciles, then dispatches), `stop` (runners go on)."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: taskspec.Components,
        connections: Connections,
        runs: Path,
        settings: RunnerSettings,
    ) -> None:
        self.settings = settings
        self.queue = ReadyQueue()
        self.draining = False
        self.on_progress: list[Callable[[str, Progress], None]] = []
        self._store = store
        self._clock = clock
        self._registry = registry
        self._connections = connections
        self._runs = runs
        self._cleaner = Cleaner(clock, self._runner_spec, settings.cancel_grace_s)
        self._runners: dict[str, Runner] = {}
        self._starting: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # What Jobs asks.

    def runner(self, job_id: str) -> Runner | None:
        return self._runners.get(job_id)

    def starting(self, job_id: str) -> bool:
        """Is its runner being prepared right now?"""
        return job_id in self._starting

    @property
    def running(self) -> int:
        """Attempts that move data now; paused ones do not count."""
        return len(self._starting) + sum(not r.paused for r in self._runners.values())

    def rundir(self, uid: str) -> RunDir:
        return RunDir(self._runs, uid)

    def ready(self, job: Job) -> None:
        """`job` is QUEUED and in the store: start it when there is room."""
        self.queue.push(job)
        self.pump()

    def later(self, job: Job) -> None:
        """`job` is RETRYING: queue it again when its time has come."""
        delay = max(0.0, (job.next_attempt_time or 0.0) - self._clock.now())
        self.forget(job.id)
        self._timers[job.id] = asyncio.get_running_loop().call_later(delay, self._due, job.id)

    def forget(self, job_id: str) -> None:
        """The job is neither queued nor due any more."""
        self.queue.remove(job_id)
        timer = self._timers.pop(job_id, None)
        if timer is not None:
            timer.cancel()

    def pump(self) -> None:
        """Start what there is room for."""
        while not self.draining and self.running < self.settings.max_runners:
            job_id = self.queue.pop()
            if job_id is None:
                return
            self._starting.add(job_id)
            self._spawn(self._run(job_id))

    def end_without_runner(self, job: Job) -> None:
        """Finish the cancellation of a job that nothing runs for."""
        self.forget(job.id)
        self._spawn(self._persist(job.name, lambda: self._settle(job, None, Outcome("cancelled"))))

    async def start(self) -> None:
        """Take up what the store says is unfinished."""
        for job in await self._store.read(rows.unfinished):
            if job.cancel_requested and not self._has_attempt(job):
                self.end_without_runner(job)
            elif job.state is JobState.QUEUED:
                self.queue.push(job)
            elif job.state is JobState.RETRYING:
                self.later(job)
            elif self._has_attempt(job):
                self._spawn(self._adopt(job))
        self.pump()

    async def stop(self) -> None:
        """No more starts; let go of the runners, which go on."""
        self.draining = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Starting.

    def _has_attempt(self, job: Job) -> bool:
        """Is the last attempt of a RUNNING or PAUSED job still open, as far as the store knows?"""
        if job.state not in {JobState.RUNNING, JobState.PAUSED} or job.attempt_count == 0:
            return False
        attempt = self._store.read_now(lambda conn: rows.get_attempt(conn, job.id, job.attempt_count))
        return attempt is not None and attempt.state is AttemptState.RUNNING

    def _due(self, job_id: str) -> None:
        self._timers.pop(job_id, None)

        async def requeue() -> None:
            job = await self._store.write(
                lambda tx: change(tx, load(tx, job_id), JobEvent.REQUEUE, "kernel", next_attempt_time=None)
            )
            self.ready(job)

        self._spawn(self._persist(f"jobs/{job_id}", requeue))

    async def _run(self, job_id: str) -> None:
        """One attempt, from the queue to its settled end."""
        try:
            started = await self._start_attempt(job_id)
        finally:
            self._starting.discard(job_id)
        if started is not None:
            await self._follow(*started)
        self.pump()

    async def _start_attempt(self, job_id: str) -> tuple[Job, Runner] | None:
        job = self._store.read_now(lambda conn: rows.get(conn, job_id))
        if job is None or job.state is not JobState.QUEUED:
            return None
        if job.cancel_requested:
            self.end_without_runner(job)
            return None
        rundir = self.rundir(job.uid)
        lock_fd = None
        begun = False
        try:
            components, spec = await self._prepare(job)
            number = job.attempt_count + 1
            rundir.prepare(number)
            lock_fd = rundir.lock()
            if lock_fd is None:
                self._retry_start(job, "its last runner has not let go yet")
                return None
            running = await self._store.write(lambda tx: _begin(tx, job_id, components))
            begun = True
            runner = self._new_runner(running, number)
            self._runners[job_id] = runner
            runner.launch({**spec, "attempt": number, "attempt_dir": str(rundir.attempt(number))}, lock_fd)
        except (HyperError, OSError) as exc:
            self._runners.pop(job_id, None)
            await self._start_failed(job_id, from_exception(exc, doing="starting the runner"), begun=begun)
            return None
        finally:
            if lock_fd is not None:
                os.close(lock_fd)
        if running.cancel_requested:
            self.ask_cancel(runner, "cancelled while it was being started")
        log.info("attempt_started", job=job.name, attempt=number, pid=runner.pid)
        return running, runner

    async def _prepare(self, job: Job) -> tuple[list[Any], dict[str, Any]]:
        """The components this job runs with, and its runner's spec but for the attempt's own fields."""
        task = self._registry.component(f"task/{job.task}")
        needs = taskspec.needs(task.manifest.spec_schema, job.spec)
        resolved = {c.name: c for c in [await self._connections.resolve(f"connections/{i}") for i in needs.connections]}
        if job.pins:
            components = taskspec.pinned_components(self._registry, job.pins)
        else:
            kinds = sorted({c.component for c in resolved.values()})
            components = taskspec.choose(self._registry, task, kinds, needs.formats)
        spec = {
            "protocol": _PROTOCOL,
            "mode": "run",
            "job": job.name,
            "task": job.task,
            "spec": dict(job.spec),
            "job_dir": str(self.rundir(job.uid).path),
            "bandwidth_limit_bytes": job.bandwidth_limit_bytes,
            "paused": False,
            "components": {c.name: taskspec.component_to_wire(c) for c in components},
            "connections": {name: {**c.to_wire(), "component": c.component} for name, c in resolved.items()},
        }
        return components, spec

    async def _runner_spec(self, job: Job) -> dict[str, Any]:
        return (await self._prepare(job))[1]

    def _new_runner(self, job: Job, number: int) -> Runner:
        def tell(progress: Progress) -> None:
            for listener in self.on_progress:
                listener(job.id, progress)

        return Runner(
            job.id,
            number,
            self.rundir(job.uid),
            self._clock,
            paused=job.state is JobState.PAUSED,
            bandwidth_limit=job.bandwidth_limit_bytes,
            on_progress=tell,
        )

    def _retry_start(self, job: Job, why: str) -> None:
        log.info("attempt_delayed", job=job.name, why=why)
        asyncio.get_running_loop().call_later(0.5, self.ready, job)

    async def _start_failed(self, job_id: str, error: HyperError, *, begun: bool) -> None:
        """Nothing was started. `begun`: the store has the attempt. Else the job is QUEUED still, or was cancelled or
        paused in the meantime, and then that stands."""
        log.warning("attempt_start_failed", job=f"jobs/{job_id}", reason=error.reason, message=error.message)

        async def settle() -> None:
            job = self._store.read_now(lambda conn: rows.get(conn, job_id))
            if job is None or job.terminal:
                return
            if begun:
                await self._settle(job, None, Outcome("failed", error=error.to_json()))
            elif job.state is JobState.QUEUED and error.retryable:
                self._retry_start(job, error.message)
            elif job.state is JobState.QUEUED:
                failure: dict[str, Any] = {"message": error.message, "error": error.to_json()}
                await self._store.write(lambda tx: change(tx, load(tx, job_id), JobEvent.FAIL, "kernel", **failure))

        await self._persist(f"jobs/{job_id}", settle)

    # Following and ending.

    async def _adopt(self, job: Job) -> None:
        """An attempt that an earlier kernel started: alive, finished, or dead."""
        runner = self._new_runner(job, job.attempt_count)
        self._runners[job.id] = runner
        if job.cancel_requested:
            self.ask_cancel(runner, "cancelled before the kernel restarted")
        log.info("attempt_adopted", job=job.name, attempt=job.attempt_count, alive=runner.rundir.alive())
        await self._follow(job, runner)
        self.pump()

    def ask_cancel(self, runner: Runner, reason: str) -> None:
        """Ask a runner to stop, and kill it when it does not."""
        runner.cancel(reason)
        asyncio.get_running_loop().call_later(self.settings.cancel_grace_s, runner.kill)

    async def _follow(self, job: Job, runner: Runner) -> None:
        outcome = await runner.outcome()
        try:
            await self._persist(job.name, lambda: self._settle(job, runner, outcome))
        finally:
            if self._runners.get(job.id) is runner:
                del self._runners[job.id]

    async def _settle(self, job: Job, runner: Runner | None, outcome: Outcome) -> None:
        """Turn an outcome into the job's next state. Safe to repeat."""
        current = self._store.read_now(lambda conn: rows.get(conn, job.id))
        if current is None or current.terminal:
            return
        decision = decide(current, outcome, random.random())  # noqa: S311 - spreads retries, protects nothing
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

    # Tasks of our own.

    async def _persist(self, name: str, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Repeat `action` until the store takes it: a full disk delays the news of a job's end, it does not lose
        it."""
        while True:
            try:
                await action()
                return
            except HyperError as exc:
                if exc.reason == "JOB_STATE":
                    log.info("transition_overtaken", job=name, message=exc.message)
                    return
                if exc.reason == "STORE_CLOSED":
                    return
                log.warning("transition_delayed", job=name, reason=exc.reason, message=exc.message)
                await asyncio.sleep(_STORE_RETRY_S)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("dispatcher_task_failed", exc_info=task.exception())


def _begin(tx: Tx, job_id: str, components: list[Any]) -> Job:
    job = load(tx, job_id)
    job = change(
        tx,
        job,
        JobEvent.DISPATCH,
        "kernel",
        pins=job.pins or taskspec.pins_of(components),
        attempt_count=job.attempt_count + 1,
        start_time=job.start_time or tx.now,
        error=None,
        progress=None,
    )
    open_attempt(tx, job)
    return job


def _final_progress(runner: Runner | None, outcome: Outcome, now: float) -> Progress | None:
    if runner is not None and runner.progress is not None:
        return replace(runner.progress, rate_bytes=0)
    return None if outcome.journal.progress is None else progress_from_wire(outcome.journal.progress, now)

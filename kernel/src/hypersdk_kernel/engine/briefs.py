"""Brief jobs: taken from the queue in batches, begun in one transaction, run in a warm worker, ended in one.

The order of things is the dispatcher's: the attempt is in the store before the worker hears of it, the outcome in the
worker's synced journal before the store does.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from hypersdk.errors import HyperError, Unavailable, from_exception

from hypersdk_kernel.engine import briefpool, taskspec
from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.engine.beginning import open_attempt
from hypersdk_kernel.engine.briefpool import BriefPool, BriefWorker, Key
from hypersdk_kernel.engine.ending import decide, ended_attempt, ended_job
from hypersdk_kernel.engine.prepare import Preparer
from hypersdk_kernel.engine.runner import Outcome
from hypersdk_kernel.engine.transitions import change
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import AttemptState, Job, JobEvent, JobState, Pin, Progress
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import LeaderStore, Tx
from hypersdk_kernel.store.sheaf import Sheaf

log = structlog.get_logger(__name__)

BATCH = 64
PLACE = "brief/"
"""Attempt.place of an attempt in a warm worker: this and the worker's id."""


class Owner(Protocol):
    """What the dispatcher does for us."""

    def brief_begun(self, job: Job, attempt: BriefAttempt) -> None: ...
    def brief_ended(self, job: Job) -> None: ...
    def brief_refused(self, job_id: str, error: HyperError | None) -> None: ...


@dataclass(slots=True)
class BriefAttempt:
    """An Execution. It cannot be paused or throttled: it is over before that could matter."""

    job_id: str
    number: int
    worker: BriefWorker
    paused: bool = False
    progress: Progress | None = None

    @property
    def pid(self) -> int:
        return self.worker.pid

    def cancel(self, reason: str) -> None:
        self.worker.cancel(f"jobs/{self.job_id}", reason)

    def pause(self) -> None:
        """It goes on to its end."""

    def resume(self) -> None:
        """As pause."""

    def throttle(self, bytes_per_second: int) -> None:
        """It moves nothing."""

    def kill(self) -> None:
        self.worker.kill()


class Briefs:
    """Its life: `take` for each batch; `recover` at the start; `close`."""

    def __init__(self, store: LeaderStore, clock: Clock, preparer: Preparer, pool: BriefPool, owner: Owner) -> None:
        self.batches = 0
        self._store = store
        self._clock = clock
        self._preparer = preparer
        self._pool = pool
        self._owner = owner
        self._background = Background()

    @property
    def room(self) -> int:
        """How many batches may be taken now: two for each worker, so that none waits for the store."""
        return max(0, 2 * self._pool.size - self.batches)

    def take(self, job_ids: list[str], judge: Callable[[Job], bool]) -> None:
        """Run these. `judge` says of a job whether it may start now; one that may not is the owner's again."""
        self.batches += 1
        self._background.spawn(self._run(job_ids, judge))

    async def recover(self, jobs: Iterable[tuple[Job, str]]) -> None:
        """Settle what an earlier kernel's workers did: (RUNNING or PAUSED job, worker id)."""
        by_worker: defaultdict[str, list[Job]] = defaultdict(list)
        for job, worker_id in jobs:
            by_worker[worker_id].append(job)
        for worker_id, found in by_worker.items():
            self._background.spawn(self._recover(worker_id, found))

    async def stop(self) -> None:
        self._pool.close()
        await self._background.stop()

    async def _run(self, job_ids: list[str], judge: Callable[[Job], bool]) -> None:
        try:
            found = await self._store.near(lambda conn: rows.get_many(conn, job_ids))
            groups = self._grouped(job_ids, found, judge)
            await asyncio.gather(*(self._run_group(key, group) for key, group in groups.items()))
        except HyperError as exc:  # of the read: groups see to their own
            for job_id in job_ids:
                self._owner.brief_refused(job_id, exc)
        finally:
            self.batches -= 1
        self._owner.brief_refused("", None)  # there is room for another batch

    def _grouped(
        self, job_ids: list[str], found: Mapping[str, Job], judge: Callable[[Job], bool]
    ) -> dict[Key, list[tuple[Job, list[ActiveComponent]]]]:
        groups: defaultdict[Key, list[tuple[Job, list[ActiveComponent]]]] = defaultdict(list)
        for job_id in job_ids:
            job = found.get(job_id)
            if job is None or job.state is not JobState.QUEUED or job.cancel_requested or not judge(job):
                self._owner.brief_refused(job_id, None)
                continue
            try:
                components = self._preparer.components(job)
            except HyperError as exc:
                self._owner.brief_refused(job_id, exc)
                continue
            key = tuple(sorted({(c.generation.name, c.generation.digest) for c in components}))
            groups[key].append((job, components))
        return groups

    async def _run_group(self, key: Key, group: list[tuple[Job, list[ActiveComponent]]]) -> None:
        components = group[0][1]
        try:
            if not self._pool.has(key):
                await self._preparer.verify(components)
            worker = self._pool.worker(key, lambda: {c.name: taskspec.component_to_wire(c) for c in components})
            place = PLACE + worker.id
            pins = taskspec.pins_of(components)
            ids = [job.id for job, _ in group]
            begun = await self._store.write(lambda tx: _begin(tx, ids, pins, place))
        except (HyperError, OSError) as exc:
            error = from_exception(exc, doing="starting a brief job")
            for job, _ in group:
                self._owner.brief_refused(job.id, error)
            return
        for job_id in {job.id for job, _ in group} - {job.id for job in begun}:
            self._owner.brief_refused(job_id, None)
        for job in begun:
            self._owner.brief_begun(job, BriefAttempt(job.id, job.attempt_count, worker))
        attempts = [
            {
                "job": job.name, "attempt": job.attempt_count, "task": job.task, "spec": dict(job.spec),
                "attempt_dir": str(self._preparer.rundir(job.uid).attempt(job.attempt_count)),
            }
            for job in begun
        ]  # fmt: skip
        outcomes = await worker.execute(attempts) if attempts else []
        await self._settle(begun, outcomes, worker.pid)

    async def _recover(self, worker_id: str, jobs: list[Job]) -> None:
        folder = self._pool.folder / worker_id
        outcomes = await briefpool.last_words(folder)
        await self._settle(jobs, outcomes, 0)
        await asyncio.to_thread(briefpool.forget, folder)

    async def _settle(self, jobs: list[Job], outcomes: list[dict[str, Any]], pid: int) -> None:
        """Every job's outcome becomes its next state; one without an outcome was lost. Safe to repeat."""
        told = {(str(o.get("job")), o.get("attempt")): o for o in outcomes}
        ended = [(job, _outcome(told.get((job.name, job.attempt_count)), job, pid)) for job in jobs]

        def write(tx: Tx) -> list[Job]:
            current = rows.get_many(tx.conn, [job.id for job in jobs])
            attempts = rows.last_attempts(tx.conn, jobs)
            out, sheaf = [], Sheaf()
            for job, outcome in ended:
                now, attempt = current.get(job.id), attempts.get(job.id)
                if now is None or now.terminal or now.attempt_count != job.attempt_count:
                    continue
                decision = decide(now, outcome, random.random(), tx.now)  # noqa: S311 - spreads retries
                if attempt is not None and attempt.state is AttemptState.RUNNING:
                    sheaf.save_attempt(ended_attempt(replace(attempt, runner_pid=pid), outcome, None, tx.now))
                out.append(ended_job(tx, now, outcome, decision, None, sheaf))
            sheaf.write(tx)
            return out

        async def settle() -> None:
            for job in await self._store.write(write):
                self._owner.brief_ended(job)

        await self._background.until_stored("brief jobs", settle)


def _begin(tx: Tx, job_ids: list[str], pins: tuple[Pin, ...], place: str) -> list[Job]:
    begun, sheaf = [], Sheaf()
    for job in rows.get_many(tx.conn, job_ids).values():
        if job.state is not JobState.QUEUED or job.cancel_requested:
            continue
        started = change(
            tx, job, JobEvent.DISPATCH, "kernel", sheaf=sheaf, pins=job.pins or pins,
            attempt_count=job.attempt_count + 1, start_time=job.start_time or tx.now, attempt_start=tx.now,
            error=None, progress=None, stop=None,
        )  # fmt: skip
        sheaf.save_attempt(open_attempt(started, tx.now, place))
        begun.append(started)
    sheaf.write(tx)
    return begun


def _outcome(told: dict[str, Any] | None, job: Job, pid: int) -> Outcome:
    if told is None:
        error = Unavailable(
            f"the worker of attempt {job.attempt_count} died before it told how that ended",
            reason="RUNNER_LOST",
            metadata={"pid": str(pid)},
        )
        return Outcome("lost", None, error.to_json())
    result = told.get("result")
    error_json = told.get("error")
    return Outcome(
        str(told.get("status")),
        result if isinstance(result, dict) else None,
        error_json if isinstance(error_json, dict) else None,
    )

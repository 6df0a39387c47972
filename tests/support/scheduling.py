"""A store with jobs that only exist as rows, for tests of what makes them; and a store that dies at a chosen write."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypersdk.errors import InvalidArgument
from hypersdk_kernel.engine.firing import Firing
from hypersdk_kernel.engine.scheduler import Scheduler
from hypersdk_kernel.engine.schedules import Schedules
from hypersdk_kernel.engine.transitions import announce, change, load, note
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import Job, JobEvent, JobState, NewJob
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.requests import once


class Crash(BaseException):
    """The kernel died here."""


class DyingStore:
    """`store`, whose write number `dies_at` (from 1) is followed, or with `before` preceded, by the kernel's death."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writes = 0
        self.dies_at = 0
        self.before = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, fn: Any) -> Any:
        self.writes += 1
        dies = self.writes == self.dies_at
        if dies and self.before:
            raise Crash
        result = await self._store.write(fn)
        if dies:
            raise Crash
        return result


class RowJobs:
    """Jobs as far as schedules need them; what runs them is the test. Tasks named `gone` are refused."""

    def __init__(self, store: Any, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock
        self.fails: list[Exception] = []

    async def create(self, new: NewJob, *, actor, key=None, validate_only=False, beside=None) -> Job:
        if self.fails:
            raise self.fails.pop(0)
        if new.task == "gone":
            raise InvalidArgument("no such task", reason="TASK_UNKNOWN")
        now = self._clock.now()
        job = Job(
            new.id, str(uuid.uuid4()), new.task, new.spec, JobState.QUEUED, now, now, owner=actor,
            display_name=new.display_name, schedule=new.schedule, scheduled_time=new.scheduled_time,
            dependencies=new.dependencies,
        )  # fmt: skip

        def add(tx):
            wanted = job if beside is None else beside(tx, job)
            made = replace(wanted, revision=tx.new_revision())
            rows.add(tx, made, ())
            announce(tx, made, "job.created", actor)
            return made

        if validate_only:
            return job
        codecs = (codec.job_to_json, codec.job_from_json)
        return await self._store.write(lambda tx: once(tx, key, *codecs, lambda: add(tx)))

    async def cancel(self, job_id: str, *, actor: str) -> Job:
        """As the kernel: at once for one that never ran."""

        def ask(tx):
            job = load(tx, job_id)
            if job.attempt_count == 0:
                return change(tx, job, JobEvent.CANCEL, actor)
            return note(tx, job, "job.cancel_requested", actor, cancel_requested=True)

        return await self._store.write(ask)

    async def start(self, job_id: str) -> Job:
        return await self._store.write(lambda tx: _started(tx, load(tx, job_id)))

    async def end(self, job_id: str, event: JobEvent = JobEvent.SUCCEED) -> Job:
        def finish(tx):
            job = load(tx, job_id)
            if job.attempt_count == 0 and event is not JobEvent.CANCEL:
                job = _started(tx, job)
            return change(tx, job, event, "test")

        return await self._store.write(finish)

    async def all(self) -> list[Job]:
        return await self._store.read(lambda conn: rows.page(conn, 100_000, descending=False))


def _started(tx, job: Job) -> Job:
    if job.state is JobState.WAITING:
        job = change(tx, job, JobEvent.RELEASE, "test")
    return change(tx, job, JobEvent.DISPATCH, "test", attempt_count=1)


def make_job(template: Mapping[str, Any], job_id: str) -> NewJob:
    return NewJob(job_id, template["task"], template.get("spec", {}), template.get("display_name", ""))


class Timetable:
    """Scheduler, schedules and jobs on one store. `reboot` is a new kernel on the same rows."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.clock = clock
        self.real = store
        self._build()

    def _build(self) -> None:
        self.store = DyingStore(self.real)
        self.jobs = RowJobs(self.store, self.clock)
        self.firing = Firing(self.store, self.jobs, make_job)
        self.schedules = Schedules(self.store, self.clock, self.firing)
        self.scheduler = Scheduler(self.store, self.clock, self.firing)

    async def reboot(self) -> None:
        await self.scheduler.stop()
        self._build()
        await self.scheduler.load()

    async def settle(self) -> None:
        """Ticks until nothing is due."""
        while (due := self.scheduler.next_due) is not None and due <= self.clock.now():
            await self.scheduler.tick()

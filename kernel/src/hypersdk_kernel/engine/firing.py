"""Firing: an occurrence of a schedule becomes a job, once.

The job is added and the schedule's cursor moved past the occurrence in one transaction, so that after a crash either
both are there or neither is; and the transaction looks at the row again, so that two who try at once make one job.
An occurrence that becomes no job (skipped, missed, refused) moves the cursor too, with an event that says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import structlog
from hypersdk.errors import FailedPrecondition, HyperError, NotFound

from hypersdk_kernel.model import template
from hypersdk_kernel.model.dependency import Dependency, Need
from hypersdk_kernel.model.job import Job, JobState, NewJob
from hypersdk_kernel.model.schedule import MAX_QUEUED, OverlapPolicy, Plan, Schedule, advanced, job_id
from hypersdk_kernel.store import schedules as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey

log = structlog.get_logger(__name__)

KERNEL = "kernel"
_TRIES = 3

MakeJob = Callable[[Mapping[str, Any], str], NewJob]
"""A job out of an expanded template and an id. Raises InvalidArgument."""


class JobMaker(Protocol):
    """What we need of Jobs."""

    async def create(
        self,
        new: NewJob,
        *,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
        beside: Callable[[Tx, Job], Job] | None = None,
    ) -> Job: ...

    async def cancel(self, job_id: str, *, actor: str) -> Job: ...


class Firing:
    """See the module's docstring."""

    def __init__(self, store: Store, jobs: JobMaker, make: MakeJob) -> None:
        self._store = store
        self._jobs = jobs
        self._make = make

    def job_of(self, schedule: Schedule, occurrence: float, *, manual: bool = False) -> NewJob:
        """The job of an occurrence, or of a manual run. Raises InvalidArgument (SCHEDULE_INVALID, and what the job's
        own fields raise)."""
        number = schedule.status.run_count + 1
        variables = template.values(schedule, occurrence, number)
        expanded = template.expand(schedule.template, variables)
        made = self._make(expanded, job_id(schedule, occurrence, number if manual else None))
        deadline = occurrence + schedule.job_deadline_s if schedule.job_deadline_s else made.deadline
        return replace(made, schedule=schedule.id, scheduled_time=occurrence, deadline=deadline)

    async def check(self, schedule: Schedule, occurrence: float, actor: str) -> Job:
        """The job as it would be created, created nowhere. Raises what creating it would raise."""
        return await self._jobs.create(self.job_of(schedule, occurrence), actor=actor, validate_only=True)

    async def give_up(self, schedule: Schedule, plan: Plan) -> None:
        """Count what was missed and will not be made up for."""
        until = plan.missed_until
        if until is None:
            return

        def change(tx: Tx) -> None:
            current = rows.get(tx.conn, schedule.id)
            if current is None or current.uid != schedule.uid or current.status.cursor >= until:
                return
            after = advanced(current, until, missed_count=current.status.missed_count + plan.missed)
            rows.save_status(tx.conn, after)
            tell(
                tx, after, "schedule.missed", KERNEL,
                count=plan.missed, count_is_least=plan.more, since=plan.missed_since, until=until,
                policy=schedule.missed.value,
            )  # fmt: skip

        await self._store.write(change)
        log.warning("schedule_missed", schedule=schedule.name, count=plan.missed, policy=schedule.missed.value)

    async def fire(self, schedule: Schedule, occurrence: float) -> Job | None:
        """The job of a due occurrence; None when there is none: its policy skips it, it cannot be made, or somebody
        else dealt with it. Raises HyperError when it should be tried again."""
        for _ in range(_TRIES):
            try:
                return await self._create(schedule, occurrence, schedule.owner, manual=False, key=None)
            except _Stale as stale:
                if stale.current is None or stale.current.status.cursor >= occurrence or stale.current.paused:
                    return None
                schedule = stale.current
            except _Overlap as overlap:
                await self._pass_over(schedule, occurrence, overlap.message)
                return None
            except HyperError as exc:
                if exc.retryable:
                    raise
                await self._refuse(schedule, occurrence, exc)
                return None
        return None

    async def run(self, schedule: Schedule, now: float, actor: str, key: RequestKey | None) -> Job:
        """A run beside the timetable. Raises FailedPrecondition (SCHEDULE_RUNNING) where the overlap policy forbids
        it, and what Jobs.create raises."""
        while True:
            try:
                return await self._create(schedule, now, actor, manual=True, key=key)
            except _Stale as stale:
                if stale.current is None:
                    raise NotFound(
                        f"{schedule.name} was deleted in the meantime", reason="SCHEDULE_NOT_FOUND"
                    ) from None
                schedule = stale.current
            except _Overlap as overlap:
                raise FailedPrecondition(
                    f"{schedule.name}: {overlap.message}",
                    reason="SCHEDULE_RUNNING",
                    metadata={"job": overlap.job, "overlap_policy": schedule.overlap.value},
                ) from None

    async def _create(
        self, schedule: Schedule, occurrence: float, actor: str, *, manual: bool, key: RequestKey | None
    ) -> Job:
        new = self.job_of(schedule, occurrence, manual=manual)
        if schedule.overlap is OverlapPolicy.REPLACE:
            await self._cancel_before(schedule, new, actor)

        def claim(tx: Tx, job: Job) -> Job:
            current = _claimable(tx, schedule, None if manual else occurrence)
            earlier = _before(tx, current)
            status = current.status
            after = advanced(
                current, status.cursor if manual else occurrence,
                run_count=status.run_count + 1, last_time=occurrence, last_job=job.id, last_outcome="",
                last_error=None,
            )  # fmt: skip
            rows.save_status(tx.conn, after)
            tell(
                tx, after, "schedule.fired", actor if manual else KERNEL,
                job_name=job.name, scheduled_time=occurrence, run_number=status.run_count + 1, manual=manual,
            )  # fmt: skip
            job = replace(job, schedule_uid=current.uid)
            return job if not earlier else replace(
                job, dependencies=(*job.dependencies, *earlier), state=JobState.WAITING,
                state_message="it waits for the runs of its schedule before it",
            )  # fmt: skip

        return await self._jobs.create(new, actor=actor, key=key, beside=claim)

    async def _cancel_before(self, schedule: Schedule, new: NewJob, actor: str) -> None:
        """Before the new job is there: a crash in between leaves the occurrence due, and it is fired then."""
        unfinished = await self._store.read(lambda conn: rows.unfinished_jobs(conn, schedule.id))
        if not unfinished:
            return
        await self._jobs.create(new, actor=actor, validate_only=True)  # not cancelled for one that cannot be
        for job in unfinished:
            if job.cancel_requested:
                continue
            try:
                await self._jobs.cancel(job.id, actor=f"schedule {schedule.id}")
            except FailedPrecondition as exc:
                log.info("replaced_job_ended", job=job.name, reason=exc.reason)  # by itself, which is as good

    async def _pass_over(self, schedule: Schedule, occurrence: float, why: str) -> None:
        def change(tx: Tx) -> None:
            current = _found(tx, schedule, occurrence)
            if current is not None:
                after = advanced(current, occurrence, skipped_count=current.status.skipped_count + 1)
                rows.save_status(tx.conn, after)
                tell(tx, after, "schedule.skipped", KERNEL, scheduled_time=occurrence, message=why)

        await self._store.write(change)

    async def _refuse(self, schedule: Schedule, occurrence: float, error: HyperError) -> None:
        said = error.to_json()

        def change(tx: Tx) -> None:
            current = _found(tx, schedule, occurrence)
            if current is not None:
                refused = current.status.refused_count + 1
                after = advanced(current, occurrence, refused_count=refused, last_error=said)
                rows.save_status(tx.conn, after)
                tell(tx, after, "schedule.refused", KERNEL, scheduled_time=occurrence, error=said)

        await self._store.write(change)
        log.warning("schedule_refused", schedule=schedule.name, reason=error.reason, message=error.message)


def tell(tx: Tx, schedule: Schedule, event_type: str, actor: str, **details: Any) -> None:
    """An event of the schedule. `next_start_time` in every one of them is what the clock loop goes by."""
    payload = {**details, "next_start_time": schedule.status.next_start_time}
    tx.emit(event_type, schedule.name, actor, payload)


class _Stale(Exception):
    """The schedule is not as it was when its job was made. `current`: as it is, None when it is gone."""

    def __init__(self, current: Schedule | None) -> None:
        super().__init__()
        self.current = current


class _Overlap(Exception):
    """The overlap policy makes no job now."""

    def __init__(self, job: str, message: str) -> None:
        super().__init__(message)
        self.job = job
        self.message = message


def _claimable(tx: Tx, expected: Schedule, occurrence: float | None) -> Schedule:
    current = rows.get(tx.conn, expected.id)
    if current is None or current.uid != expected.uid:
        raise _Stale(None)
    same = current.revision == expected.revision and current.status.run_count == expected.status.run_count
    if not same or (occurrence is not None and (current.paused or current.status.cursor >= occurrence)):
        raise _Stale(current)
    return current


def _found(tx: Tx, expected: Schedule, occurrence: float) -> Schedule | None:
    """The row, when the occurrence is still to be dealt with."""
    current = rows.get(tx.conn, expected.id)
    if current is None or current.uid != expected.uid or current.status.cursor >= occurrence:
        return None
    return current


def _before(tx: Tx, schedule: Schedule) -> list[Dependency]:
    """What a new run has to wait for: each earlier one, because one in the middle may be cancelled."""
    unfinished = rows.unfinished_jobs(tx.conn, schedule.id)
    if schedule.overlap is OverlapPolicy.FORBID and unfinished:
        job = unfinished[0]
        raise _Overlap(job.name, f"{job.name}, an earlier run, has not ended ({job.state.value})")
    if len(unfinished) >= MAX_QUEUED:
        raise _Overlap(unfinished[0].name, f"{len(unfinished)} earlier runs have not ended, and no more may wait")
    return [Dependency(job.id, Need.FINISHED) for job in unfinished]

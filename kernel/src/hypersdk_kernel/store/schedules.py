"""Schedules as rows. What a user set (`body`) and what became of it (`status`) are columns of their own, so that a run
writes little."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from hypersdk_kernel.model.job import TERMINAL, Job, JobState
from hypersdk_kernel.model.schedule import Schedule
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import jobs, schedules

_COUNTERS = {
    JobState.SUCCEEDED: "succeeded_count", JobState.FAILED: "failed_count", JobState.CANCELLED: "cancelled_count"
}  # fmt: skip


def add(conn: Connection, schedule: Schedule) -> None:
    """Raises sqlalchemy IntegrityError when the id is taken."""
    conn.execute(insert(schedules).values(**_row(schedule)))


def save(conn: Connection, schedule: Schedule) -> None:
    conn.execute(update(schedules).where(schedules.c.id == schedule.id).values(**_row(schedule)))


def save_status(conn: Connection, schedule: Schedule) -> None:
    conn.execute(update(schedules).where(schedules.c.id == schedule.id).values(**_status(schedule)))


def remove(conn: Connection, schedule_id: str) -> None:
    conn.execute(delete(schedules).where(schedules.c.id == schedule_id))


def get(conn: Connection, schedule_id: str) -> Schedule | None:
    query = select(schedules.c.body, schedules.c.status).where(schedules.c.id == schedule_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else _schedule(row)


def page(conn: Connection, limit: int, after: str, where: ColumnElement[bool] | None = None) -> list[Schedule]:
    """Schedules with an id above `after`, in order of id."""
    query = (
        select(schedules.c.body, schedules.c.status)
        .where(schedules.c.id > after)
        .order_by(schedules.c.id)
        .limit(limit)
    )
    if where is not None:
        query = query.where(where)
    return [_schedule(row) for row in conn.execute(query)]


def due_times(conn: Connection) -> list[tuple[float, str]]:
    """When each schedule starts its next job, and its id; those that never will are left out."""
    query = select(schedules.c.next_start_time, schedules.c.id).where(schedules.c.next_start_time.is_not(None))
    return [(row.next_start_time, row.id) for row in conn.execute(query)]


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(schedules)).scalar_one()


def unfinished_jobs(conn: Connection, schedule_id: str) -> list[Job]:
    """Jobs of the schedule that have not ended, oldest first."""
    query = (
        select(jobs.c.body)
        .where(jobs.c.schedule == f"schedules/{schedule_id}", jobs.c.state.not_in([s.value for s in TERMINAL]))
        .order_by(jobs.c.create_time, jobs.c.id)
    )
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def job_ended(conn: Connection, job: Job) -> None:
    """Count the end of a job at the schedule that made it, if that is still there. In the transaction of the end."""
    found = get(conn, job.schedule)
    if found is None or found.uid != job.schedule_uid:
        return
    counter = _COUNTERS[job.state]
    changes: dict[str, Any] = {counter: getattr(found.status, counter) + 1}
    if found.status.last_job == job.id:
        changes["last_outcome"] = job.state.value
    save_status(conn, replace(found, status=replace(found.status, **changes)))


def _schedule(row: Any) -> Schedule:
    return codec.schedule_from_json({**json.loads(row.body), "status": json.loads(row.status)})


def _row(schedule: Schedule) -> dict[str, object]:
    body = codec.schedule_to_json(schedule)
    del body["status"]
    return {
        "id": schedule.id, "uid": schedule.uid, "paused": schedule.paused, "create_time": schedule.create_time,
        "revision": schedule.revision, "labels": dict(schedule.labels), "body": codec.dumps(body), **_status(schedule),
    }  # fmt: skip


def _status(schedule: Schedule) -> dict[str, object]:
    return {
        "status": codec.dumps(asdict(schedule.status)), "next_start_time": schedule.status.next_start_time
    }  # fmt: skip

"""Jobs and attempts as rows. A row's searchable columns repeat what its body says; both are written together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, tuple_, update

from hypersdk_kernel.model.job import TERMINAL, Attempt, Job, JobState
from hypersdk_kernel.store import codec, pins
from hypersdk_kernel.store.tables import attempts, job_connections, jobs
from hypersdk_kernel.store.transaction import Key, Tx


def add(tx: Tx, job: Job, connection_ids: Iterable[str]) -> None:
    """The id must be free (`taken`)."""
    tx.insert(jobs, {**row(job), "labels": codec.dumps(dict(job.labels))})
    if job.pins:
        pins.follow(tx.conn, job)
    for connection_id in set(connection_ids):
        tx.insert(job_connections, {"job_id": job.id, "connection_id": connection_id})


def taken(tx: Tx, job_id: str) -> bool:
    """Is there a job with that id, as this transaction sees it?"""
    return tx.find(jobs, job_id) is not None


def keys(job_id: str) -> tuple[Key, ...]:
    """What `taken` is going to look up, for Store.write."""
    return ((jobs, job_id),)


def save(conn: Connection, job: Job) -> None:
    conn.execute(update(jobs).where(jobs.c.id == job.id).values(**row(job)))


def get(conn: Connection, job_id: str) -> Job | None:
    body = conn.execute(select(jobs.c.body).where(jobs.c.id == job_id)).scalar_one_or_none()
    return None if body is None else codec.job_from_json(json.loads(body))


def get_many(conn: Connection, job_ids: Sequence[str]) -> dict[str, Job]:
    """Those of `job_ids`, a few hundred at most, that there are, in the order given."""
    query = select(jobs.c.id, jobs.c.body).where(jobs.c.id.in_(job_ids))
    found = {row.id: row.body for row in conn.execute(query)}
    return {i: codec.job_from_json(json.loads(found[i])) for i in job_ids if i in found}


def exists(conn: Connection, job_id: str) -> bool:
    return conn.execute(select(jobs.c.id).where(jobs.c.id == job_id)).first() is not None


def page(
    conn: Connection,
    limit: int,
    *,
    order: str = "create_time",
    descending: bool = True,
    after: tuple[float, str] | None = None,
    where: ColumnElement[bool] | None = None,
) -> list[Job]:
    """Up to `limit` jobs after the key (`order`'s value, id), which is the last one of the page before."""
    column = jobs.c[order]
    query = select(jobs.c.body).limit(limit)
    if after is not None:
        value, job_id = after
        if descending:
            query = query.where(or_(column < value, and_(column == value, jobs.c.id < job_id)))
        else:
            query = query.where(or_(column > value, and_(column == value, jobs.c.id > job_id)))
    if where is not None:
        query = query.where(where)
    keys = (column.desc(), jobs.c.id.desc()) if descending else (column, jobs.c.id)
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query.order_by(*keys)).scalars()]


def unfinished(conn: Connection) -> list[Job]:
    """Every job that is in no terminal state, oldest first."""
    query = (
        select(jobs.c.body)
        .where(jobs.c.state.not_in([s.value for s in TERMINAL]))
        .order_by(jobs.c.create_time, jobs.c.id)
    )
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def counts(conn: Connection) -> dict[str, int]:
    """Jobs by state."""
    return {
        row.state: row.n for row in conn.execute(select(jobs.c.state, func.count().label("n")).group_by(jobs.c.state))
    }


def oldest_queued(conn: Connection) -> float | None:
    """When the queued job that waits longest was made; None when none is queued."""
    query = select(func.min(jobs.c.create_time)).where(jobs.c.state == JobState.QUEUED.value)
    return conn.execute(query).scalar_one_or_none()


def in_group(conn: Connection, group: str) -> list[Job]:
    """The jobs of a group, at most 1,000, oldest first."""
    query = select(jobs.c.body).where(jobs.c.job_group == group).order_by(jobs.c.create_time, jobs.c.id)
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def in_window(conn: Connection, window: str, limit: int) -> list[str]:
    """Ids of jobs that have not ended and may run only in a window. Reads the bodies: for operators."""
    found = (job.id for job in unfinished(conn) if job.window == window)
    return list(itertools.islice(found, limit))


def group_counts(conn: Connection, groups: Collection[str]) -> dict[str, dict[str, int]]:
    """Group → jobs by state."""
    query = (
        select(jobs.c.job_group, jobs.c.state, func.count().label("n"))
        .where(jobs.c.job_group.in_(groups))
        .group_by(jobs.c.job_group, jobs.c.state)
    )
    out: dict[str, dict[str, int]] = {group: {} for group in groups}
    for row in conn.execute(query):
        out[row.job_group][row.state] = row.n
    return out


def ended_before(conn: Connection, uids: Collection[str], horizon: float) -> set[str]:
    """Those of `uids` whose job is in a terminal state and has not changed since `horizon`."""
    ended = [state.value for state in TERMINAL]
    query = select(jobs.c.uid).where(jobs.c.uid.in_(uids), jobs.c.state.in_(ended), jobs.c.update_time < horizon)
    return set(conn.execute(query).scalars())


def using(conn: Connection, connection_id: str, states: Collection[JobState], limit: int) -> list[str]:
    """Ids of jobs in one of `states` whose spec names the connection."""
    query = (
        select(jobs.c.id)
        .join(job_connections, job_connections.c.job_id == jobs.c.id)
        .where(job_connections.c.connection_id == connection_id, jobs.c.state.in_([s.value for s in states]))
        .limit(limit)
    )
    return list(conn.execute(query).scalars())


def save_attempt(conn: Connection, attempt: Attempt) -> None:
    """Insert or replace."""
    conn.execute(delete(attempts).where(attempts.c.job_id == attempt.job_id, attempts.c.number == attempt.number))
    conn.execute(insert(attempts).values(attempt_row(attempt)))


def attempt_row(attempt: Attempt) -> dict[str, object]:
    """An attempt's columns."""
    return {
        "job_id": attempt.job_id, "number": attempt.number, "state": attempt.state.value,
        "start_time": attempt.start_time, "body": codec.dumps(codec.attempt_to_json(attempt)),
    }  # fmt: skip


def get_attempt(conn: Connection, job_id: str, number: int) -> Attempt | None:
    query = select(attempts.c.body).where(attempts.c.job_id == job_id, attempts.c.number == number)
    body = conn.execute(query).scalar_one_or_none()
    return None if body is None else codec.attempt_from_json(json.loads(body))


def last_attempts(conn: Connection, found: Sequence[Job]) -> dict[str, Attempt]:
    """Job id → its last attempt, of a few hundred jobs at most."""
    query = select(attempts.c.body).where(
        tuple_(attempts.c.job_id, attempts.c.number).in_([(job.id, job.attempt_count) for job in found])
    )
    read = (codec.attempt_from_json(json.loads(body)) for body in conn.execute(query).scalars())
    return {attempt.job_id: attempt for attempt in read}


def attempts_page(conn: Connection, job_id: str, limit: int, after: int) -> list[Attempt]:
    """Attempts of a number above `after`, in order."""
    query = (
        select(attempts.c.body)
        .where(attempts.c.job_id == job_id, attempts.c.number > after)
        .order_by(attempts.c.number)
        .limit(limit)
    )
    return [codec.attempt_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def row(job: Job) -> dict[str, object]:
    """A job's columns."""
    return {
        "id": job.id, "uid": job.uid, "task": job.task, "state": job.state.value, "priority": job.priority,
        "owner": job.owner, "create_time": job.create_time, "update_time": job.update_time,
        "next_attempt_time": job.next_attempt_time, "revision": job.revision, "labels": dict(job.labels),
        "schedule": f"schedules/{job.schedule}" if job.schedule else None,
        "job_group": job.group, "body": codec.job_text(job),
    }  # fmt: skip

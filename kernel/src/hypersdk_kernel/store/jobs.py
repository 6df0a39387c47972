"""Jobs and attempts as rows. A row's searchable columns repeat what its body says; both are written together."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, tuple_, update

from hypersdk_kernel.model.job import TERMINAL, Attempt, Job, JobState
from hypersdk_kernel.store import codec, pins
from hypersdk_kernel.store.tables import attempts, job_connections, job_labels, jobs
from hypersdk_kernel.store.transaction import Key, Tx

UNFINISHED = tuple(state for state in JobState if state not in TERMINAL)
"""Asked for as such, and not as "none of the terminal ones", which no index answers."""


def add(tx: Tx, job: Job, connection_ids: Iterable[str]) -> None:
    """The id must be free (`taken`)."""
    tx.insert(jobs, {**row(job), "labels": codec.dumps(dict(job.labels))})
    if job.pins:
        pins.follow(tx.conn, job)
    for key, value in _label_rows(job.labels).items():
        tx.insert(job_labels, {"key": key, "value": value, "create_time": job.create_time, "job_id": job.id})
    for connection_id in set(connection_ids):
        tx.insert(job_connections, {"job_id": job.id, "connection_id": connection_id})


def taken(tx: Tx, job_id: str) -> bool:
    """Is there a job with that id, as this transaction sees it?"""
    return tx.find(jobs, job_id) is not None


def keys(job_id: str) -> tuple[Key, ...]:
    """What `taken` is going to look up, for Store.write."""
    return ((jobs, job_id),)


def save(conn: Connection, job: Job) -> None:
    conn.execute(update(jobs).where(jobs.c.id == job.id).values(changing(job)))


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
    label: tuple[str, str] | None = None,
) -> list[Job]:
    """Up to `limit` jobs that come after the key (value of `order`, id). `order` is create_time or update_time.
    `label`: one that `where` asks for; without it the same is found, by a longer way."""
    query = select(jobs.c.body).limit(limit)
    column: ColumnElement[float] = jobs.c[order]
    ident: ColumnElement[str] = jobs.c.id
    if label is not None and order == "create_time":
        ((key, value),) = _label_rows(dict([label])).items()
        column, ident = job_labels.c.create_time, job_labels.c.job_id
        query = query.join(job_labels, job_labels.c.job_id == jobs.c.id)
        query = query.where(job_labels.c.key == key, job_labels.c.value == value)
    if after is not None:
        at, job_id = after
        if descending:
            query = query.where(column <= at, or_(column < at, ident < job_id))
        else:
            query = query.where(column >= at, or_(column > at, ident > job_id))
    if where is not None:
        query = query.where(where)
    keys = (column.desc(), ident.desc()) if descending else (column, ident)
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query.order_by(*keys)).scalars()]


def _label_rows(labels: Mapping[str, str]) -> dict[str, str]:
    """Keys and values as job_labels has them: cut where a template made them longer than a client could."""
    return {key[:63]: value[:256] for key, value in labels.items()}


class Place(NamedTuple):
    """In the list of the jobs that have not ended: behind that one."""

    state: JobState
    create_time: float
    job_id: str


def unfinished(conn: Connection) -> list[Job]:
    """Every job that is in no terminal state, oldest first."""
    return in_states(conn, UNFINISHED)


def in_states(conn: Connection, states: Collection[JobState]) -> list[Job]:
    """Every job in one of `states`, oldest first."""
    query = (
        select(jobs.c.body)
        .where(jobs.c.state.in_([s.value for s in states]))
        .order_by(jobs.c.create_time, jobs.c.id)
    )
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def in_state(conn: Connection, state: JobState, limit: int, after: tuple[float, str] | None) -> list[Job]:
    """A page of them, oldest first; `after`: creation time and id of the last one of the page before."""
    query = select(jobs.c.body).where(jobs.c.state == state.value)
    if after is not None:
        query = query.where(
            jobs.c.create_time >= after[0], or_(jobs.c.create_time > after[0], jobs.c.id > after[1])
        )
    query = query.order_by(jobs.c.create_time, jobs.c.id).limit(limit)
    return [codec.job_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def unfinished_page(conn: Connection, limit: int, after: Place | None) -> tuple[list[Job], Place | None]:
    """Up to `limit` jobs that have not ended, all in one state, behind `after`, and the place behind them; none when
    there are no more."""
    for state in UNFINISHED[0 if after is None else UNFINISHED.index(after.state) :]:
        key = (after.create_time, after.job_id) if after is not None and after.state is state else None
        page = in_state(conn, state, limit, key)
        if page:
            return page, Place(state, page[-1].create_time, page[-1].id)
    return [], None


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


def groups_to_settle(conn: Connection) -> list[str]:
    """Groups of which a job failed or was cancelled while others have not ended."""
    going = select(jobs.c.job_group).where(jobs.c.job_group != "", jobs.c.state.in_([s.value for s in UNFINISHED]))
    broken = (JobState.FAILED.value, JobState.CANCELLED.value)
    query = select(jobs.c.job_group).where(jobs.c.job_group.in_(going), jobs.c.state.in_(broken)).distinct()
    return sorted(conn.execute(query).scalars())


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


def changing(job: Job) -> dict[str, object]:
    """Those of a job's columns that may change in its life; the others' indexes are then left alone."""
    return {
        "state": job.state.value, "priority": job.priority, "update_time": job.update_time,
        "next_attempt_time": job.next_attempt_time, "revision": job.revision, "body": codec.job_text(job),
    }  # fmt: skip


def row(job: Job) -> dict[str, object]:
    """A job's columns."""
    return {
        "id": job.id, "uid": job.uid, "task": job.task, "state": job.state.value, "priority": job.priority,
        "owner": job.owner, "create_time": job.create_time, "update_time": job.update_time,
        "next_attempt_time": job.next_attempt_time, "revision": job.revision, "labels": dict(job.labels),
        "schedule": f"schedules/{job.schedule}" if job.schedule else None,
        "job_group": job.group, "body": codec.job_text(job),
    }  # fmt: skip

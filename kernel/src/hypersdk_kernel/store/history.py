"""Ends of jobs as rows for reports: what is summed up, in columns, and one index over time.

A job that failed, was retried by an operator and then succeeded ended twice, and has two rows. Aggregates are the
database's work: whatever the range, what comes back is a few hundred rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, literal, or_, select

from hypersdk_kernel.model.job import Job, JobState, Progress
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import job_connections, job_history
from hypersdk_kernel.store.transaction import Tx

GROUPS = 100
"""Tasks, connections or reasons in a report at most: the largest."""
DAYS = 400
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Sums:
    """Of the ends of a group of jobs. Seconds and bytes; None where nothing ran. `key`: task, connection, day, …"""

    key: str
    count: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    run_s: float = 0.0
    longest_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the longest runs."""

    job_id: str
    task: str
    state: str
    end_time: float
    run_s: float
    attempts: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Report:
    total: Sums
    tasks: list[Sums]
    connections: list[Sums]
    days: list[Sums]
    reasons: list[tuple[str, int]]
    slowest: list[Slow]


def record(tx: Tx, job: Job) -> None:
    """The row of a job that has just ended. Costs no statement of its own."""
    end = job.update_time if job.end_time is None else job.end_time
    moved = job.progress or Progress()
    tx.insert(job_history, {
        "job_id": job.id, "revision": job.revision, "task": job.task, "state": job.state.value, "owner": job.owner,
        "labels": codec.dumps(dict(job.labels)), "end_time": end, "day": int(end // _DAY_S),
        "wait_s": None if job.start_time is None else max(0.0, job.start_time - job.create_time),
        "run_s": None if job.start_time is None else max(0.0, end - job.start_time),
        "attempts": job.attempt_count, "bytes_read": max(0, moved.bytes_read),
        "bytes_written": max(0, moved.bytes_written), "reason": str((job.error or {}).get("reason") or "")[:64],
    })  # fmt: skip


def report(
    conn: Connection, start: float, end: float, where: ColumnElement[bool] | None, slowest: int
) -> Report:
    """Of the jobs that ended in [start, end) and pass `where`, a condition over job_history."""
    columns = job_history.c
    within = and_(columns.end_time >= start, columns.end_time < end)
    if where is not None:
        within = and_(within, where)
    everything = _sums(conn, select(job_history).where(within), None)
    with_connections = (
        select(job_history, job_connections.c.connection_id)
        .join(job_connections, job_connections.c.job_id == columns.job_id)
        .where(within)
    )
    ends = select(job_history).where(within)
    return Report(
        total=everything[0] if everything else Sums(""),
        tasks=_sums(conn, ends, "task"),
        connections=_sums(conn, with_connections, "connection_id"),
        days=sorted(_sums(conn, ends, "day", DAYS), key=lambda sums: int(sums.key)),
        reasons=_reasons(conn, within),
        slowest=_slowest(conn, within, slowest),
    )


def _sums(conn: Connection, rows: Select[Any], group: str | None, limit: int = GROUPS) -> list[Sums]:
    """The sums of each group, the largest first (days: the latest)."""
    c = rows.subquery().c

    def in_state(state: JobState) -> ColumnElement[Any]:
        return func.sum(case((c.state == state.value, 1), else_=0))

    count = func.count()
    query = select(
        count.label("n"), in_state(JobState.SUCCEEDED), in_state(JobState.FAILED), in_state(JobState.CANCELLED),
        func.sum(c.attempts), func.sum(c.bytes_read), func.sum(c.bytes_written), func.sum(c.run_s), func.max(c.run_s),
        func.avg(c.wait_s),
    )  # fmt: skip
    if group:
        order = c[group].desc() if group == "day" else count.desc()
        query = query.add_columns(c[group]).group_by(c[group]).order_by(order, c[group]).limit(limit)
    found = [tuple(row) for row in conn.execute(query) if row.n]
    ranks = _percentiles(conn, rows, group)
    return [_one(values, ranks, keyed=group is not None) for values in found]


def _percentiles(conn: Connection, rows: Select[Any], group: str | None) -> dict[Any, tuple[float, float]]:
    """p50 and p95 of each group's run times, by nearest rank, in one sort. Of two columns only: with all of them the
    sort of 100,000 rows takes three times as long."""
    c = rows.subquery().c
    key = c[group] if group else literal(0)
    over = [key] if group else None
    ranked = (
        select(
            key.label("key"), c.run_s,
            func.row_number().over(partition_by=over, order_by=c.run_s).label("rank"),
            func.count().over(partition_by=over).label("ran"),
        )
        .where(c.run_s.is_not(None))
        .subquery()
    )  # fmt: skip
    r = ranked.c
    wanted = or_(r.rank == (r.ran * 50 + 99) // 100, r.rank == (r.ran * 95 + 99) // 100)
    found: dict[Any, list[float]] = {}
    for row in conn.execute(select(r.key, r.run_s).where(wanted).order_by(r.key, r.rank)):
        found.setdefault(row.key, []).append(float(row.run_s))
    return {k: (values[0], values[-1]) for k, values in found.items()}


def _one(values: tuple[Any, ...], ranks: Mapping[Any, tuple[float, float]], *, keyed: bool) -> Sums:
    count, succeeded, failed, cancelled, attempts, read, written = (int(value or 0) for value in values[:7])
    longest, wait = (None if value is None else float(value) for value in values[8:10])
    p50, p95 = ranks.get(values[10] if keyed else 0, (None, None))
    key, run_s = str(values[10]) if keyed else "", float(values[7] or 0.0)
    return Sums(
        key, count, succeeded, failed, cancelled, attempts, read, written, run_s, longest, p50, p95, wait
    )


def _reasons(conn: Connection, within: ColumnElement[bool]) -> list[tuple[str, int]]:
    columns = job_history.c
    query = (
        select(columns.reason, func.count().label("n"))
        .where(within, columns.state == JobState.FAILED.value)
        .group_by(columns.reason)
        .order_by(func.count().desc(), columns.reason)
        .limit(GROUPS)
    )
    return [(row.reason, row.n) for row in conn.execute(query)]


def _slowest(conn: Connection, within: ColumnElement[bool], limit: int) -> list[Slow]:
    c = job_history.c
    query = (
        select(c.job_id, c.task, c.state, c.end_time, c.run_s, c.attempts, c.bytes_read, c.bytes_written)
        .where(within, c.run_s.is_not(None))
        .order_by(c.run_s.desc(), c.job_id)
        .limit(limit)
    )
    return [Slow(*row) for row in conn.execute(query)]

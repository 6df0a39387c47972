"""Ends of jobs for reports, filled from the jobs that have ended."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ENDED = ("succeeded", "failed", "cancelled")
_CHUNK = 1000


def upgrade() -> None:
    history = op.create_table(
        "job_history",
        sa.Column("job_id", sa.String(63), primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("task", sa.String(63), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("end_time", sa.Float, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.Column("wait_s", sa.Float),
        sa.Column("run_s", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("bytes_read", sa.BigInteger, nullable=False),
        sa.Column("bytes_written", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
    )
    op.create_index("job_history_by_end_time", "job_history", ["end_time"])
    jobs = sa.table("jobs", sa.column("id"), sa.column("state"), sa.column("body"))
    after = ""
    while True:  # by key, not by cursor: 100,000 bodies are never in memory at once
        query = (
            sa.select(jobs.c.id, jobs.c.body)
            .where(jobs.c.state.in_(_ENDED), jobs.c.id > after)
            .order_by(jobs.c.id)
            .limit(_CHUNK)
        )
        page = op.get_bind().execute(query).all()
        if not page:
            return
        op.bulk_insert(history, [_row(json.loads(row.body)) for row in page])
        after = page[-1].id


def _row(job: dict) -> dict:
    """As it was when this migration was written; store.history may change."""
    end = float(job.get("end_time") or job["update_time"])
    start = job.get("start_time")
    moved = job.get("progress") or {}
    return {
        "job_id": job["id"], "revision": int(job.get("revision") or 0), "task": job["task"], "state": job["state"],
        "owner": job.get("owner") or "", "labels": dict(job.get("labels") or {}), "end_time": end,
        "day": int(end // 86_400),
        "wait_s": None if start is None else max(0.0, start - job["create_time"]),
        "run_s": None if start is None else max(0.0, end - start),
        "attempts": int(job.get("attempt_count") or 0),
        "bytes_read": max(0, int(moved.get("bytes_read") or 0)),
        "bytes_written": max(0, int(moved.get("bytes_written") or 0)),
        "reason": str((job.get("error") or {}).get("reason") or "")[:64],
    }  # fmt: skip

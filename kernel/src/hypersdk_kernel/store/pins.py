"""Which builds are held by jobs that have not ended: one row for each, so that nobody reads the jobs for it.

Not here: choosing a job's pins (engine), keeping what is pinned (hosting).
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from hypersdk_kernel.model.job import Job
from hypersdk_kernel.store.tables import job_pins


def follow(conn: Connection, job: Job) -> None:
    """Make the rows of `job` what its state and its pins say."""
    conn.execute(delete(job_pins).where(job_pins.c.job_id == job.id))
    digests = sorted({pin.digest for pin in job.pins}) if not job.terminal else []
    if digests:
        conn.execute(insert(job_pins), [{"job_id": job.id, "digest": digest} for digest in digests])


def counts(conn: Connection) -> dict[str, int]:
    """Digest → how many jobs hold it."""
    query = select(job_pins.c.digest, func.count().label("n")).group_by(job_pins.c.digest)
    return {row.digest: row.n for row in conn.execute(query)}


def holders(conn: Connection) -> dict[str, str]:
    """Digest → the id of one job that holds it."""
    query = select(job_pins.c.digest, func.min(job_pins.c.job_id).label("job_id")).group_by(job_pins.c.digest)
    return {row.digest: row.job_id for row in conn.execute(query)}

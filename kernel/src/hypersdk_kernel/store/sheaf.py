"""A sheaf: changes of many jobs in one transaction, written by a few statements instead of five for each.

Its life: `save` and `save_attempt` any number, then `write` once. What was saved is not seen by reads before.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, update

from hypersdk_kernel.model.job import Attempt, Job
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.tables import attempts, job_pins, jobs
from hypersdk_kernel.store.transaction import Tx

_KEY = "sheaf_key"
_NUMBER = "sheaf_number"


class Sheaf:
    """Each job at most once."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._pinned: list[Job] = []
        self._attempts: list[Attempt] = []

    def save(self, job: Job, *, pins: bool) -> None:
        """`pins`: which builds it holds has changed."""
        self._jobs.append(job)
        if pins:
            self._pinned.append(job)

    def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace."""
        self._attempts.append(attempt)

    def write(self, tx: Tx) -> None:
        if self._jobs:
            changed = [rows.row(job) for job in self._jobs]
            names = [name for name in changed[0] if name != "id"]
            statement = update(jobs).where(jobs.c.id == bindparam(_KEY)).values({n: bindparam(n) for n in names})
            tx.conn.execute(statement, [{**row, _KEY: row["id"]} for row in changed])
        if self._pinned:
            tx.conn.execute(delete(job_pins).where(job_pins.c.job_id.in_([job.id for job in self._pinned])))
            held = [
                {"job_id": job.id, "digest": digest}
                for job in self._pinned
                if not job.terminal
                for digest in sorted({pin.digest for pin in job.pins})
            ]
            if held:
                tx.conn.execute(insert(job_pins), held)
        if self._attempts:
            gone = delete(attempts).where(attempts.c.job_id == bindparam(_KEY), attempts.c.number == bindparam(_NUMBER))
            tx.conn.execute(gone, [{_KEY: a.job_id, _NUMBER: a.number} for a in self._attempts])
            tx.conn.execute(insert(attempts), [rows.attempt_row(a) for a in self._attempts])

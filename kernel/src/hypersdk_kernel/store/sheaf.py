"""A sheaf: changes of many jobs in one transaction, written by a few statements instead of five for each.

Its life: `save` and `save_attempt` any number, then `write` once. What was saved is not seen by reads before.
"""

from __future__ import annotations

from hypersdk_kernel.model.job import Attempt, Job
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.tables import attempts, job_pins, jobs
from hypersdk_kernel.store.transaction import Tx


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
        tx.update(jobs, ("id",), [{"id": job.id, **rows.changing(job)} for job in self._jobs])
        tx.delete(job_pins, ("job_id",), [{"job_id": job.id} for job in self._pinned])
        for job in self._pinned:
            if not job.terminal:
                for digest in sorted({pin.digest for pin in job.pins}):
                    tx.insert(job_pins, {"job_id": job.id, "digest": digest})
        made = [rows.attempt_row(attempt) for attempt in self._attempts]
        tx.delete(attempts, ("job_id", "number"), made)
        for row in made:
            tx.insert(attempts, row)

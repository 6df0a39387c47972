"""How an attempt begins, in the store: the job RUNNING with its pins, and the attempt's row.

Not here: the process (runner, briefpool).
"""

from __future__ import annotations

from collections.abc import Sequence

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.transitions import change, load
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobEvent
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Tx


def begin(tx: Tx, job_id: str, components: Sequence[ActiveComponent], place: str = "") -> Job:
    job = load(tx, job_id)
    job = change(
        tx,
        job,
        JobEvent.DISPATCH,
        "kernel",
        pins=job.pins or taskspec.pins_of(components),
        attempt_count=job.attempt_count + 1,
        start_time=job.start_time or tx.now,
        attempt_start=tx.now,
        error=None,
        progress=None,
        stop=None,
    )
    rows.save_attempt(tx.conn, open_attempt(job, tx.now, place))
    return job


def open_attempt(job: Job, now: float, place: str = "") -> Attempt:
    """The attempt that `job` is about to start."""
    resumed = job.attempt_count > 1
    return Attempt(job.id, job.attempt_count, AttemptState.RUNNING, now, resumed=resumed, place=place)

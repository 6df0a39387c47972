"""The one way in which a job's state changes: inside a store transaction, by the table, with its event."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypersdk.errors import Aborted, NotFound

from hypersdk_kernel.model.job import TERMINAL, AttemptState, Job, JobEvent, next_state
from hypersdk_kernel.store import codec, history, pins
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store import schedules as schedule_rows
from hypersdk_kernel.store.engine import Tx
from hypersdk_kernel.store.sheaf import Sheaf


def load(tx: Tx, job_id: str, etag: str = "") -> Job:
    """The job as it is now. Raises NotFound (JOB_NOT_FOUND), Aborted (ETAG_MISMATCH)."""
    job = rows.get(tx.conn, job_id)
    if job is None:
        raise not_found(job_id)
    if etag and etag != job.etag:
        raise Aborted(
            f"jobs/{job_id} has changed since it was read; read it again and decide anew",
            reason="ETAG_MISMATCH",
            metadata={"etag": job.etag},
        )
    return job


def stands(tx: Tx, job: Job) -> bool:
    """Is `job`, perhaps a remembered answer, still how the store has it? If not, something came after it that acting
    on it once more would undo."""
    now = rows.get(tx.conn, job.id)
    return now is not None and (now.uid, now.revision) == (job.uid, job.revision)


def not_found(job_id: str) -> NotFound:
    return NotFound(
        f"there is no job jobs/{job_id}; `hyperctl job list` shows those there are",
        reason="JOB_NOT_FOUND",
        metadata={"name": f"jobs/{job_id}"},
    )


def has_open_attempt(tx: Tx, job: Job) -> bool:
    """Has its last attempt a runner, as far as the store knows? Every kernel gets the same answer."""
    if job.attempt_count == 0:
        return False
    attempt = rows.get_attempt(tx.conn, job.id, job.attempt_count)
    return attempt is not None and attempt.state is AttemptState.RUNNING


def change(
    tx: Tx, job: Job, event: JobEvent, actor: str, message: str = "", *, sheaf: Sheaf | None = None, **fields: Any
) -> Job:
    """`job` after `event`, saved (or left to `sheaf`), with the event `job.<state>`. Raises FailedPrecondition
    (JOB_STATE)."""
    state = next_state(job.state, event)
    if state in TERMINAL:
        fields.setdefault("end_time", tx.now)
        fields.setdefault("next_attempt_time", None)
    changed = note(tx, job, f"job.{state.value}", actor, sheaf=sheaf, state=state, state_message=message, **fields)
    if state in TERMINAL:
        history.record(tx, changed)
    if state in TERMINAL and job.schedule:
        schedule_rows.job_ended(tx.conn, changed)
    return changed


def note(tx: Tx, job: Job, event_type: str, actor: str, *, sheaf: Sheaf | None = None, **fields: Any) -> Job:
    """`job` with `fields` changed but not its state, saved (or left to `sheaf`), with an event of that type."""
    changed = replace(job, update_time=tx.now, revision=tx.new_revision(), **fields)
    held = "pins" in fields or (changed.terminal and bool(changed.pins))
    if sheaf is not None:
        sheaf.save(changed, pins=held)
    else:
        rows.save(tx.conn, changed)
        if held:
            pins.follow(tx.conn, changed)
    announce(tx, changed, event_type, actor)
    return changed


def announce(tx: Tx, job: Job, event_type: str, actor: str) -> None:
    """The event of a job that is saved already; carries the whole job, so that a watcher needs no second read."""
    tx.emit(event_type, job.name, actor, codec.JobPayload(job), revision=job.revision)

"""How an attempt's end becomes its job's next state, and how what it left behind is released.

`decide` is the rule and pure; `end` writes it; `Cleaner` runs the plugins' `cleanup` in a fresh process when no
further
attempt will take over what the former ones acquired.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import HyperError, Unavailable, from_exception, from_json

from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.engine.runner import Outcome, Runner
from hypersdk_kernel.engine.transitions import change, load, note
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobEvent, JobState, Progress
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Tx
from hypersdk_kernel.store.sheaf import Sheaf

log = structlog.get_logger(__name__)

_CLEANUP_S = 120.0

_ENDS = {
    "succeeded": AttemptState.SUCCEEDED,
    "failed": AttemptState.FAILED,
    "cancelled": AttemptState.CANCELLED,
    "lost": AttemptState.LOST,
}


Decision = tuple[JobEvent, Mapping[str, Any] | None, float]
"""The event, the error to keep, seconds until the next attempt."""


def decide(job: Job, outcome: Outcome, chance: float, now: float) -> Decision:
    """What an attempt's outcome means for its job. Pure; `chance` in [0, 1) spreads retries."""
    if outcome.status == "succeeded":
        return JobEvent.SUCCEED, None, 0.0
    if job.cancel_requested:
        return JobEvent.CANCEL, outcome.error if outcome.status == "failed" else None, 0.0
    if job.stop is not None:
        return _STOPPED[str(job.stop.get("then"))], job.stop.get("error"), 0.0
    if outcome.status == "cancelled":
        return JobEvent.CANCEL, None, 0.0
    error = dict(outcome.error or Unavailable("the attempt failed without saying why").to_json())
    policy, attempts = job.retry, max(job.attempt_count, 1)
    delay_s = policy.delay_s(attempts, chance, from_json(error).retry_after_s)
    refusal = policy.refusal(
        retryable=bool(error.get("retryable")),
        reason=str(error.get("reason", "")),
        attempts=attempts,
        since_first_s=now - (job.start_time or now),
        delay_s=delay_s,
    )
    if refusal is None:
        return JobEvent.FAIL_RETRYABLE, error, delay_s
    return JobEvent.FAIL, error, 0.0


_STOPPED = {"fail": JobEvent.FAIL, "cancel": JobEvent.CANCEL, "wait": JobEvent.FAIL_RETRYABLE}


def end(tx: Tx, job_id: str, outcome: Outcome, decision: Decision, progress: Progress | None) -> Job:
    """Write the attempt's end and the job's next state. A paused job whose attempt is to be repeated stays paused:
    it goes on when it is resumed."""
    job = load(tx, job_id)
    attempt = rows.get_attempt(tx.conn, job.id, job.attempt_count) if job.attempt_count else None
    if attempt is not None and attempt.state is AttemptState.RUNNING:
        rows.save_attempt(tx.conn, ended_attempt(attempt, outcome, progress, tx.now))
    return ended_job(tx, job, outcome, decision, progress)


def ended_job(
    tx: Tx, job: Job, outcome: Outcome, decision: Decision, progress: Progress | None, sheaf: Sheaf | None = None
) -> Job:
    """The job's share of `end`."""
    event, error, delay = decision
    fields: dict[str, Any] = {"error": error, "progress": progress or job.progress}
    if event is JobEvent.FAIL_RETRYABLE and job.state is JobState.PAUSED:
        return note(tx, job, "job.attempt_lost", "runner", sheaf=sheaf, **fields)
    if event is JobEvent.SUCCEED:
        fields["result"] = dict(outcome.result or {})
    if event is JobEvent.FAIL_RETRYABLE:
        fields["next_attempt_time"] = tx.now + delay
        if job.stop is not None:  # it did nothing wrong: this attempt does not count
            fields["retry"] = replace(job.retry, max_attempts=job.retry.max_attempts + 1)
    fields["stop"] = None
    return change(tx, job, event, "runner", str((error or {}).get("message") or ""), sheaf=sheaf, **fields)


def ended_attempt(attempt: Attempt, outcome: Outcome, progress: Progress | None, now: float) -> Attempt:
    """The attempt's share of `end`."""
    started = outcome.journal.started or {}
    return replace(
        attempt,
        state=_ENDS.get(outcome.status, AttemptState.LOST),
        end_time=now,
        error=outcome.error,
        progress=progress,
        runner_pid=_integer(started.get("pid")) or attempt.runner_pid,
        resumed=started.get("resumed") is True,
    )


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0


class Cleaner:
    """Releases what a job's attempts acquired and did not release. `prepare` gives a runner's spec for the job."""

    def __init__(self, clock: Clock, prepare: Callable[[Job], Awaitable[dict[str, Any]]], grace_s: float) -> None:
        self._clock = clock
        self._prepare = prepare
        self._grace_s = grace_s

    async def clean_up(self, job: Job, rundir: RunDir, runner: Runner | None) -> None:
        """Ask the plugins to release what is left. What cannot be released is named in the log, and stays in the
        journal
        for a person to look up; the job's end does not wait for it any longer."""
        outstanding = await asyncio.to_thread(rundir.outstanding, job.attempt_count)
        if not outstanding:
            return
        if runner is not None and not await runner.wait_gone(self._grace_s):
            runner.kill()
            await runner.wait_gone(self._grace_s)
        lock_fd = rundir.lock()
        if lock_fd is None:
            log.error("cleanup_impossible", job=job.name, why="a runner still holds the job's lock")
            return
        place = _CleanupDir(rundir, job.attempt_count)
        cleaner = Runner(job.id, place.next_number(), place, self._clock)
        try:
            place.prepare(cleaner.number)
            spec = await self._prepare(job)
            folder = str(place.attempt(cleaner.number))
            spec |= {"mode": "cleanup", "attempt": job.attempt_count, "attempt_dir": folder, "outstanding": outstanding}
            cleaner.launch(spec, lock_fd)
        except (HyperError, OSError) as exc:
            error = from_exception(exc, doing="cleaning up")
            log.error("cleanup_failed", job=job.name, error=error.message, outstanding=sorted(outstanding))
            return
        finally:
            os.close(lock_fd)
        try:
            done = await asyncio.wait_for(cleaner.outcome(), _CLEANUP_S)
        except TimeoutError:
            cleaner.kill()
            log.error("cleanup_timed_out", job=job.name, outstanding=sorted(outstanding))
            return
        left = sorted(outstanding.keys() - done.journal.released)
        if left:
            log.error("cleanup_incomplete", job=job.name, left=left, error=done.error)
        else:
            log.info("cleanup_ended", job=job.name, released=sorted(outstanding))
        await cleaner.wait_gone(self._grace_s)


class _CleanupDir(RunDir):
    """A cleanup's own folder below the attempt it cleans up after, under the same job's lock."""

    def __init__(self, job: RunDir, attempt: int) -> None:
        folder: Path = job.attempt(attempt) / "cleanup"
        super().__init__(folder.parent, folder.name)
        self._job = job

    def next_number(self) -> int:
        """A kernel that died while it cleaned up left a journal that must not be taken for the next one's."""
        return 1 + sum(1 for _ in (self.path / "attempts").glob("*"))

    def alive(self) -> bool:
        return self._job.alive()

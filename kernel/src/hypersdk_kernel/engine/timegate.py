"""The gate of a job's own times: not before, and its deadline."""

from __future__ import annotations

import datetime as dt

from hypersdk.errors import DeadlineExceeded

from hypersdk_kernel.engine.gates import Doom, Hold
from hypersdk_kernel.model.job import Job, JobEvent


class TimeGate:
    """Holds a job until its `not_before`, and fails it when its `deadline` has passed. Keeps nothing."""

    def judge(self, job: Job, now: float) -> Hold | Doom | None:
        if job.deadline is not None and now >= job.deadline:
            return Doom(JobEvent.FAIL, deadline_passed(job))
        if job.not_before is not None and now < job.not_before:
            return Hold(
                "NOT_BEFORE",
                f"it is not to start before {moment(job.not_before)}",
                job.not_before,
                "wait, or submit it again with another start time",
            )
        return None

    def forget(self, job_id: str) -> None:
        """Nothing is kept."""


def deadline_passed(job: Job) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{job.name} had not ended by its deadline, {moment(job.deadline or 0.0)}",
        reason="DEADLINE_PASSED",
        metadata={"name": job.name},
    )


def run_time_exceeded(job: Job) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{job.name} ran longer than its limit of {job.max_run_s:g} s",
        reason="RUN_TIME_EXCEEDED",
        metadata={"name": job.name},
    )


def moment(seconds: float) -> str:
    """A time for people: RFC 3339 in UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

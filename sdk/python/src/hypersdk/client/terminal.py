"""When a job has ended, and how its failure reads as an error of the tree.

Pure functions over messages, shared by both clients and by the command line. Not the state table itself: the kernel
owns that.
"""

from __future__ import annotations

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.errors import Cancelled, HyperError

TERMINAL_STATES = frozenset(
    {jobs_pb2.JOB_STATE_SUCCEEDED, jobs_pb2.JOB_STATE_FAILED, jobs_pb2.JOB_STATE_CANCELLED}
)


def has_ended(job: jobs_pb2.Job) -> bool:
    """Whether the job is in a state that only an explicit retry leaves."""
    return job.state in TERMINAL_STATES


def failure_of(job: jobs_pb2.Job) -> HyperError | None:
    """Why an ended job did not succeed; None if it did, or has not ended."""
    if job.state == jobs_pb2.JOB_STATE_CANCELLED:
        return Cancelled(
            f"{job.name} was cancelled; `hyperctl job retry {job.name}` queues it again",
            reason="JOB_CANCELLED", metadata={"job": job.name},
        )  # fmt: skip
    if job.state != jobs_pb2.JOB_STATE_FAILED:
        return None
    return HyperError(
        f"{job.name} failed: {job.error.message or job.state_message or 'no reason was given'}",
        reason=job.error.reason or "JOB_FAILED",
        metadata={**job.error.metadata, "job": job.name},
        retryable=job.error.retryable,
    )

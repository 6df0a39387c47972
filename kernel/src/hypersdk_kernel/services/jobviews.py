"""Jobs, attempts and their progress as messages, and a new job from its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobState, NewJob, Progress
from hypersdk_kernel.model.names import new_id
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.services.values import dict_of, duration, seconds_of, struct, timestamp

_JOB_STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_ATTEMPT_STATES = {state: pb.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}
_DEFAULT_RETRY = RetryPolicy()
_DEFAULT_PRIORITY = 50


def job_message(job: Job) -> pb.Job:
    out = pb.Job(
        name=job.name,
        uid=job.uid,
        display_name=job.display_name,
        labels=job.labels,
        task=job.task,
        spec=struct(job.spec),
        priority=job.priority,
        retry_policy=retry_message(job.retry),
        bandwidth_limit_bytes=job.bandwidth_limit_bytes,
        state=_JOB_STATES[job.state],
        state_message=job.state_message,
        create_time=timestamp(job.create_time),
        update_time=timestamp(job.update_time),
        start_time=_time(job.start_time),
        end_time=_time(job.end_time),
        next_attempt_time=_time(job.next_attempt_time),
        attempt_count=job.attempt_count,
        progress=_progress_message(job.progress),
        result=None if job.result is None else struct(job.result),
        error=error_message(job.error),
        cancel_requested=job.cancel_requested,
        etag=job.etag,
        schedule=f"schedules/{job.schedule}" if job.schedule else "",
        scheduled_time=_time(job.scheduled_time),
    )
    for pin in job.pins:
        out.pins.add(
            generation=pin.generation, distribution=pin.distribution, version=pin.version, digest=pin.digest,
            api_version=pin.api_version, components=pin.components,
        )  # fmt: skip
    return out


def attempt_message(attempt: Attempt) -> pb.Attempt:
    return pb.Attempt(
        name=attempt.name,
        number=attempt.number,
        state=_ATTEMPT_STATES[attempt.state],
        start_time=timestamp(attempt.start_time),
        end_time=_time(attempt.end_time),
        error=error_message(attempt.error),
        progress=_progress_message(attempt.progress),
        runner_pid=attempt.runner_pid,
        resumed=attempt.resumed,
    )


def new_job(request: pb.CreateJobRequest) -> NewJob:
    """What the request asks for, with defaults filled in. Raises InvalidArgument."""
    job = request.job
    return NewJob(
        id=request.job_id or new_id("job"),
        task=job.task,
        spec=dict_of(job.spec, "job.spec"),
        display_name=job.display_name,
        labels=dict(job.labels),
        priority=job.priority if job.HasField("priority") else _DEFAULT_PRIORITY,
        retry=retry_of(job.retry_policy),
        bandwidth_limit_bytes=job.bandwidth_limit_bytes,
    )


def retry_of(
    policy: pb.RetryPolicy, default: RetryPolicy = _DEFAULT_RETRY, field: str = "job.retry_policy"
) -> RetryPolicy:
    """What a message asks for, `default` where it says nothing. Raises InvalidArgument."""
    if 0 < policy.multiplier < 1:
        rule = "must be 1 to 10, or 0 for the default"
        raise InvalidArgument(
            f"{field}.multiplier {rule}",
            reason="VALUE_INVALID",
            violations=(FieldViolation(f"{field}.multiplier", rule),),
        )
    initial, longest = policy.HasField("initial_delay"), policy.HasField("max_delay")
    return RetryPolicy(
        max_attempts=policy.max_attempts or default.max_attempts,
        initial_delay_s=seconds_of(policy.initial_delay) if initial else default.initial_delay_s,
        multiplier=policy.multiplier or default.multiplier,
        max_delay_s=seconds_of(policy.max_delay) if longest else default.max_delay_s,
    )


def retry_message(policy: RetryPolicy) -> pb.RetryPolicy:
    return pb.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_delay=duration(policy.initial_delay_s),
        multiplier=policy.multiplier,
        max_delay=duration(policy.max_delay_s),
    )


def _progress_message(progress: Progress | None) -> pb.Progress | None:
    if progress is None:
        return None
    return pb.Progress(
        phase=progress.phase,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        bytes_read=progress.bytes_read,
        bytes_written=progress.bytes_written,
        message=progress.message,
        update_time=timestamp(progress.update_time),
        rate_bytes=progress.rate_bytes,
    )


def error_message(error: Mapping[str, Any] | None) -> pb.JobError | None:
    if error is None:
        return None
    metadata = error.get("metadata")
    return pb.JobError(
        reason=str(error.get("reason", "")),
        message=str(error.get("message", "")),
        retryable=bool(error.get("retryable", False)),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, Mapping) else {},
    )


def _time(seconds: float | None) -> Any:
    return None if seconds is None else timestamp(seconds)

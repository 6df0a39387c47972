"""Jobs, attempts and their progress as messages, and a new job from its message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct
from hypersdk.api.jobs.v1 import jobs_pb2 as pb

from hypersdk_kernel.model.delay import DEFAULT_EXPECTED_S, Delay
from hypersdk_kernel.model.dependency import Dependency, Need, Unmet
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobState, NewJob, Progress
from hypersdk_kernel.model.names import id_of, new_id
from hypersdk_kernel.services.retryviews import retry_message, retry_of
from hypersdk_kernel.services.values import dict_of, duration, seconds, seconds_of, struct, timestamp

_JOB_STATES = {state: pb.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_ATTEMPT_STATES = {state: pb.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}
NEEDS = {need: pb.DependencyNeed.Value(f"DEPENDENCY_NEED_{need.name}") for need in Need}
_NEED_OF = {int(value): need for need, value in NEEDS.items()}
_UNMET = {unmet: pb.UnmetDependency.Value(f"UNMET_DEPENDENCY_{unmet.name}") for unmet in Unmet}
_UNMET_OF = {value: unmet for unmet, value in _UNMET.items()}
_DEFAULT_PRIORITY = 50


def job_message(job: Job, spec: Struct | None = None) -> pb.Job:
    """`spec`: the job's, where it is a message already."""
    out = pb.Job(
        name=job.name,
        uid=job.uid,
        display_name=job.display_name,
        labels=job.labels,
        task=job.task,
        spec=struct(job.spec) if spec is None else spec,
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
        delay=_delay_message(job.delay),
        planned_start_time=_time(job.planned_start),
        planned_start_reason=job.planned_reason,
        group=f"jobGroups/{job.group}" if job.group else "",
        earliest_start_time=_time(job.not_before),
        deadline=_time(job.deadline),
        max_run_duration=duration(job.max_run_s) if job.max_run_s else None,
        window=f"windows/{job.window}" if job.window else "",
        executor=job.executor,
        placement=job.placement,
        rank=job.rank,
    )
    if job.dependencies:
        out.on_unmet_dependency = _UNMET[job.unmet]
    for dependency in job.dependencies:
        out.dependencies.add(
            job=f"jobs/{dependency.job_id}", need=NEEDS[dependency.need], condition=dependency.condition
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
    return new_job_of(request.job, request.job_id or new_id("job"))


def new_job_of(job: pb.Job, job_id: str) -> NewJob:
    """As `new_job`, of a job message alone."""
    return NewJob(
        id=job_id,
        task=job.task,
        spec=dict_of(job.spec, "job.spec"),
        display_name=job.display_name,
        labels=dict(job.labels) if job.labels else {},
        priority=job.priority if job.HasField("priority") else _DEFAULT_PRIORITY,
        retry=retry_of(job.retry_policy),
        bandwidth_limit_bytes=job.bandwidth_limit_bytes,
        dependencies=tuple(
            Dependency(id_of(d.job, "jobs"), need_of(d.need), d.condition)
            for d in job.dependencies
        ),
        unmet=_UNMET_OF.get(job.on_unmet_dependency, Unmet.CANCEL),
        not_before=seconds(job.earliest_start_time) if job.HasField("earliest_start_time") else None,
        deadline=seconds(job.deadline) if job.HasField("deadline") else None,
        max_run_s=seconds_of(job.max_run_duration),
        window=id_of(job.window, "windows", "job.window") if job.window else "",
        executor=job.executor or "local",
        placement=dict(job.placement) if job.placement else {},
        delay=_delay_of(job.delay) if job.HasField("delay") else None,
    )


def _delay_of(option: pb.DelayOption) -> Delay:
    expected = seconds_of(option.expected_duration) if option.HasField("expected_duration") else DEFAULT_EXPECTED_S
    return Delay(option.source, option.region, seconds_of(option.max_delay), expected)


def _delay_message(delay: Delay | None) -> pb.DelayOption | None:
    if delay is None:
        return None
    return pb.DelayOption(
        source=delay.source,
        region=delay.region,
        max_delay=duration(delay.max_delay_s),
        expected_duration=duration(delay.expected_s),
    )


def need_of(need: int) -> Need:
    """SUCCEEDED where nothing was said."""
    return _NEED_OF.get(need, Need.SUCCEEDED)


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

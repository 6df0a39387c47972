"""Schedules as messages, and what a message asks of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.schedules.v1 import schedules_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.model.job import JobState, NewJob
from hypersdk_kernel.model.schedule import DEFAULT_MISSED_AFTER_S, MissedPolicy, OverlapPolicy, Schedule
from hypersdk_kernel.model.timing import Timing, invalid
from hypersdk_kernel.services.jobviews import error_message, new_job
from hypersdk_kernel.services.values import duration, seconds_of, timestamp

TIMING = ("cron", "run_at", "time_zone", "start_time", "end_time")
FIELDS = ("display_name", "labels", *TIMING, "jitter", "missed_run_policy", "overlap_policy", "job_template",
          "variables", "job_deadline")  # fmt: skip
"""What a client sets, and an update may name."""

_STATES = {name: pb.ScheduleState.Value(f"SCHEDULE_STATE_{name.upper()}") for name in ("active", "paused", "finished")}
_ACTIONS = {policy: pb.MissedRunPolicy.Action.Value(f"ACTION_{policy.name}") for policy in MissedPolicy}
_OVERLAPS = {policy: pb.OverlapPolicy.Value(f"OVERLAP_POLICY_{policy.name}") for policy in OverlapPolicy}
_OUTCOMES = {state.value: jobs_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in JobState}
_GIVEN_BY_US = {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}


def schedule_message(schedule: Schedule) -> pb.Schedule:
    timing, status = schedule.timing, schedule.status
    out = pb.Schedule(
        name=schedule.name,
        uid=schedule.uid,
        display_name=schedule.display_name,
        labels=schedule.labels,
        time_zone=timing.time_zone,
        start_time=_time(timing.start),
        end_time=_time(timing.end),
        jitter=duration(schedule.jitter_s) if schedule.jitter_s else None,
        missed_run_policy=pb.MissedRunPolicy(
            action=_ACTIONS[schedule.missed],
            catch_up_limit=schedule.catch_up_limit,
            missed_after=duration(schedule.missed_after_s),
        ),
        overlap_policy=_OVERLAPS[schedule.overlap],
        job_template=ParseDict(dict(schedule.template), jobs_pb2.Job(), ignore_unknown_fields=True),
        variables=schedule.variables,
        job_deadline=duration(schedule.job_deadline_s) if schedule.job_deadline_s else None,
        state=_STATES[schedule.state],
        pause_reason=schedule.pause_reason,
        next_time=_time(status.next_time),
        next_start_time=_time(status.next_start_time),
        last_time=_time(status.last_time),
        last_job=f"jobs/{status.last_job}" if status.last_job else "",
        last_outcome=_OUTCOMES.get(status.last_outcome, jobs_pb2.JOB_STATE_UNSPECIFIED),
        last_error=error_message(status.last_error),
        counts=pb.ScheduleCounts(
            runs=status.run_count, succeeded=status.succeeded_count, failed=status.failed_count,
            cancelled=status.cancelled_count, skipped=status.skipped_count, missed=status.missed_count,
            refused=status.refused_count,
        ),
        create_time=timestamp(schedule.create_time),
        update_time=timestamp(schedule.update_time),
        owner=schedule.owner,
        etag=schedule.etag,
    )  # fmt: skip
    if timing.run_at is not None:
        out.run_at.CopyFrom(timestamp(timing.run_at))
    else:
        out.cron = timing.cron
    return out


def values_of(message: pb.Schedule) -> dict[str, Any]:
    """What a message says, by the names that engine.schedules takes. Raises InvalidArgument."""
    policy = message.missed_run_policy
    after = seconds_of(policy.missed_after) if policy.HasField("missed_after") else DEFAULT_MISSED_AFTER_S
    return {
        "display_name": message.display_name,
        "labels": dict(message.labels),
        "timing": timing_of(message),
        "jitter_s": seconds_of(message.jitter),
        "missed": _named(_ACTIONS, policy.action, MissedPolicy.RUN_ONCE),
        "catch_up_limit": policy.catch_up_limit or 1,
        "missed_after_s": after,
        "overlap": _named(_OVERLAPS, message.overlap_policy, OverlapPolicy.FORBID),
        "template": template_of(message.job_template),
        "variables": dict(message.variables),
        "job_deadline_s": seconds_of(message.job_deadline),
    }


def timing_of(message: pb.Schedule) -> Timing:
    return Timing(
        cron=" ".join(message.cron.split()),
        run_at=_seconds(message, "run_at"),
        time_zone=message.time_zone or "UTC",
        start=_seconds(message, "start_time"),
        end=_seconds(message, "end_time"),
    )


def template_of(job: jobs_pb2.Job) -> dict[str, Any]:
    """The job as JSON, without what only the kernel sets."""
    kept = jobs_pb2.Job()
    kept.CopyFrom(job)
    for field in kept.DESCRIPTOR.fields:
        behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if _GIVEN_BY_US & set(behaviours):
            kept.ClearField(field.name)  # type: ignore[arg-type]  # names come from the descriptor itself
    found: dict[str, Any] = MessageToDict(kept, preserving_proto_field_name=True)
    return found


def job_maker(check: Callable[[Message], None]) -> Callable[[Mapping[str, Any], str], NewJob]:
    """From an expanded template to a new job. `check` raises InvalidArgument for what breaks the proto's constraints,
    as it would for a CreateJob."""

    def make(template: Mapping[str, Any], job_id: str) -> NewJob:
        try:
            job = ParseDict(dict(template), jobs_pb2.Job(), ignore_unknown_fields=True)
        except ParseError as exc:
            raise invalid("schedule.job_template", str(exc)[:300]) from exc
        request = jobs_pb2.CreateJobRequest(job=job, job_id=job_id)
        check(request)
        return new_job(request)

    return make


def merged(current: pb.Schedule, given: pb.Schedule, paths: tuple[str, ...]) -> tuple[pb.Schedule, set[str]]:
    """`current` with what `given` sets, and the fields that were set: those of `paths`, or all that are set in it.
    Raises InvalidArgument (FIELD_IMMUTABLE)."""
    if "*" in paths:
        paths = FIELDS
    for path in paths:
        if path not in FIELDS:
            rule = f"cannot be changed; these can, as a whole: {', '.join(FIELDS)}"
            raise InvalidArgument(
                f"schedule.{path[:80]} {rule}",
                reason="FIELD_IMMUTABLE",
                violations=(FieldViolation(f"schedule.{path[:80]}", rule),),
            )
    there = {field.name for field, _ in given.ListFields()} & set(FIELDS)
    named = set(paths) or there
    if named & {"cron", "run_at"}:
        named |= {"cron", "run_at"} & there  # what was, is cleared by what is
    out = pb.Schedule()
    out.CopyFrom(current)
    for name in named:
        out.ClearField(name)  # type: ignore[arg-type]  # one of FIELDS
    part = pb.Schedule()
    part.CopyFrom(given)
    for field, _ in given.ListFields():
        if field.name not in named:
            part.ClearField(field.name)  # type: ignore[arg-type]
    out.MergeFrom(part)
    return out, named


_VALUES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(TIMING, ("timing",)),
    "jitter": ("jitter_s",),
    "missed_run_policy": ("missed", "catch_up_limit", "missed_after_s"),
    "overlap_policy": ("overlap",),
    "job_template": ("template",),
    "job_deadline": ("job_deadline_s",),
}


def changes_of(message: pb.Schedule, named: set[str]) -> dict[str, Any]:
    """The values of the named fields, by the names that engine.schedules takes."""
    values = values_of(message)
    return {key: values[key] for name in named for key in _VALUES.get(name, (name,))}


def _named(table: Mapping[Any, int], number: int, default: Any) -> Any:
    return next((value for value, known in table.items() if known == number), default)


def _seconds(message: pb.Schedule, field: str) -> float | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # one of TIMING
        return None
    moment = getattr(message, field)
    return float(moment.seconds + moment.nanos / 1e9)


def _time(seconds: float | None) -> Any:
    return None if seconds is None else timestamp(seconds)

"""Model values as JSON and back: for rows, for event payloads, for remembered answers. Unknown keys are ignored and
missing ones
take the dataclass's default, so an older kernel's rows stay readable."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from hypersdk_kernel.model.connection import Connection
from hypersdk_kernel.model.dependency import Dependency, Need, Unmet
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobState, Pin, Progress
from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypersdk_kernel.model.schedule import MissedPolicy, OverlapPolicy, Schedule, Status
from hypersdk_kernel.model.timing import Timing


def dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def job_to_json(job: Job) -> dict[str, Any]:
    """Every field, JSON-able."""
    out = {f.name: getattr(job, f.name) for f in dataclasses.fields(Job)}
    out["state"] = job.state.value
    out["retry"] = dataclasses.asdict(job.retry)
    out["progress"] = None if job.progress is None else dataclasses.asdict(job.progress)
    out["pins"] = [dataclasses.asdict(pin) for pin in job.pins]
    out["labels"], out["spec"], out["placement"] = dict(job.labels), dict(job.spec), dict(job.placement)
    out["dependencies"] = [dataclasses.asdict(dependency) for dependency in job.dependencies]
    return out


def job_from_json(data: Mapping[str, Any]) -> Job:
    values = known(Job, data)
    values["state"] = JobState(data["state"])
    values["retry"] = retry_from_json(data.get("retry") or {})
    values["dependencies"] = tuple(
        Dependency(d["job_id"], Need(d["need"]), d.get("condition", "")) for d in data.get("dependencies") or ()
    )
    values["unmet"] = Unmet(data.get("unmet") or Unmet.CANCEL)
    values["progress"] = _progress(data.get("progress"))
    values["pins"] = tuple(
        Pin(**{**known(Pin, pin), "components": tuple(pin["components"])}) for pin in data.get("pins") or ()
    )
    return Job(**values)


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    out = dataclasses.asdict(attempt)
    out["state"] = attempt.state.value
    return out


def attempt_from_json(data: Mapping[str, Any]) -> Attempt:
    values = known(Attempt, data)
    values["state"] = AttemptState(data["state"])
    values["progress"] = _progress(data.get("progress"))
    return Attempt(**values)


def connection_to_json(connection: Connection) -> dict[str, Any]:
    return {f.name: getattr(connection, f.name) for f in dataclasses.fields(Connection)}


def connection_from_json(data: Mapping[str, Any]) -> Connection:
    return Connection(**known(Connection, data))


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """Every field, with `status` as an object of its own."""
    out = {f.name: getattr(schedule, f.name) for f in dataclasses.fields(Schedule)}
    out["timing"], out["status"] = dataclasses.asdict(schedule.timing), dataclasses.asdict(schedule.status)
    out["missed"], out["overlap"] = schedule.missed.value, schedule.overlap.value
    out["labels"], out["variables"] = dict(schedule.labels), dict(schedule.variables)
    return out


def schedule_from_json(data: Mapping[str, Any]) -> Schedule:
    values = known(Schedule, data)
    values["timing"] = Timing(**known(Timing, data["timing"]))
    values["status"] = Status(**known(Status, data["status"]))
    values["missed"], values["overlap"] = MissedPolicy(data["missed"]), OverlapPolicy(data["overlap"])
    return Schedule(**values)


def known(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    """What of `data` the dataclass `cls` has a field for."""
    names = _FIELDS.get(cls)
    if names is None:
        names = _FIELDS[cls] = frozenset(f.name for f in dataclasses.fields(cls))
    return {k: v for k, v in data.items() if k in names}


_FIELDS: dict[type, frozenset[str]] = {}


def retry_from_json(data: Mapping[str, Any]) -> RetryPolicy:
    values = known(RetryPolicy, data)
    values["strategy"] = Backoff(values.get("strategy") or Backoff.EXPONENTIAL)
    values["only"], values["never"] = tuple(values.get("only") or ()), tuple(values.get("never") or ())
    return RetryPolicy(**values)


def _progress(data: Mapping[str, Any] | None) -> Progress | None:
    return None if data is None else Progress(**known(Progress, data))

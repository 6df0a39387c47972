"""Model values as JSON and back: for rows, for event payloads, for remembered answers. Unknown keys are ignored and
missing ones
take the dataclass's default, so an older kernel's rows stay readable."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from hypersdk_kernel.model.connection import Connection
from hypersdk_kernel.model.delay import Delay
from hypersdk_kernel.model.dependency import Dependency, Need, Unmet
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobState, Pin, Progress
from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypersdk_kernel.model.schedule import MissedPolicy, OverlapPolicy, Schedule, Status
from hypersdk_kernel.model.timing import Timing

_exact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_quick = msgspec.json.Encoder().encode
"""The same text in a seventh of the time, of dataclasses too."""


def dumps(value: Any) -> str:
    return value.text if isinstance(value, Encoded) else _text(value)


def _text(value: Any) -> str:
    try:
        return _quick(value).decode()
    except (TypeError, ValueError):  # a mapping that is no dict; a lone surrogate
        return _exact(value)


class Encoded(Mapping[str, Any]):
    """A JSON object that is text already, read only if somebody looks: most events are written and never read."""

    __slots__ = ("_data", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._data: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        if self._data is None:
            self._data = json.loads(self.text)
        return self._data

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class JobPayload(Encoded):
    """The payload of a `job.*` event, beside the job itself."""

    __slots__ = ("job",)

    def __init__(self, job: Job) -> None:
        super().__init__(f'{{"job":{job_text(job)}}}')
        self.job = job

    def __contains__(self, key: object) -> bool:
        return key == "job"


def job_of(payload: Mapping[str, Any]) -> Job | None:
    """The job that an event tells of, if it does."""
    if isinstance(payload, JobPayload):
        return payload.job
    data = payload.get("job")
    return None if data is None else job_from_json(data)


def job_text(job: Job) -> str:
    """The job as JSON. A job's row, its event and the remembered answer follow one another and have the same text, so
    the last one is kept."""
    global _last_job  # noqa: PLW0603 - replaced whole, so that threads see a pair that belongs together
    known, text = _last_job
    if known is not job:
        try:
            text = _quick(job).decode()
        except (TypeError, ValueError):  # a mapping that is no dict; a lone surrogate
            text = _exact(job_to_json(job))
        _last_job = (job, text)
    return text


_last_job: tuple[Job | None, str] = (None, "")


def job_encoded(job: Job) -> Encoded:
    """For store.requests.once."""
    return Encoded(job_text(job))


def job_to_json(job: Job) -> dict[str, Any]:
    """Every field, JSON-able."""
    out = {name: getattr(job, name) for name in _JOB_FIELDS}
    out["state"] = job.state.value
    out["retry"] = _plain(job.retry)
    out["progress"] = None if job.progress is None else _plain(job.progress)
    out["pins"] = [_plain(pin) for pin in job.pins]
    out["labels"], out["spec"], out["placement"] = dict(job.labels), dict(job.spec), dict(job.placement)
    out["dependencies"] = [_plain(dependency) for dependency in job.dependencies]
    out["delay"] = None if job.delay is None else _plain(job.delay)
    return out


def _plain(value: Any) -> dict[str, Any]:
    """A flat dataclass; `dataclasses.asdict` copies deeply, at ten times the price."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


_JOB_FIELDS = tuple(field.name for field in dataclasses.fields(Job))


def job_from_json(data: Mapping[str, Any]) -> Job:
    values = known(Job, data)
    values["state"] = JobState(data["state"])
    values["retry"] = retry_from_json(data.get("retry") or {})
    values["dependencies"] = tuple(
        Dependency(d["job_id"], Need(d["need"]), d.get("condition", "")) for d in data.get("dependencies") or ()
    )
    values["unmet"] = Unmet(data.get("unmet") or Unmet.CANCEL)
    values["progress"] = _progress(data.get("progress"))
    delay = data.get("delay")
    values["delay"] = None if delay is None else Delay(**known(Delay, delay))
    values["pins"] = tuple(
        Pin(**{**known(Pin, pin), "components": tuple(pin["components"])}) for pin in data.get("pins") or ()
    )
    return Job(**values)


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    out = _plain(attempt)
    out["state"] = attempt.state.value
    out["progress"] = None if attempt.progress is None else _plain(attempt.progress)
    out["error"] = None if attempt.error is None else dict(attempt.error)
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

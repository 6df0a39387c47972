"""A schedule out of a template file and flags. Flags win over the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.errors import InvalidArgument

from hyperctl.fromplain import from_plain
from hyperctl.pairs import parse_pairs, read_config_file, typed

if TYPE_CHECKING:
    from hypersdk.api.schedules.v1.schedules_pb2 import Schedule


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says; None or empty where it says nothing."""

    file: Path | None = None
    cron: str | None = None
    at: str | None = None
    time_zone: str | None = None
    start: str | None = None
    end: str | None = None
    jitter: str | None = None
    overlap: str | None = None
    missed: str | None = None
    catch_up: int | None = None
    job_deadline: str | None = None
    display_name: str | None = None
    labels: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
    task: str | None = None
    spec: list[str] = field(default_factory=list)
    priority: int | None = None

    def plain(self) -> dict[str, Any]:
        """As plain values, the file's first."""
        out = _file(self.file) if self.file is not None else {}
        timing = {"cron": self.cron, "run_at": self.at}
        if self.cron is not None or self.at is not None:
            out.pop("cron", None)
            out.pop("run_at", None)
        flags = {
            **timing, "time_zone": self.time_zone, "start_time": self.start, "end_time": self.end,
            "jitter": self.jitter, "overlap_policy": self.overlap, "job_deadline": self.job_deadline,
            "display_name": self.display_name,
        }  # fmt: skip
        out.update({key: value for key, value in flags.items() if value is not None})
        if self.missed is not None or self.catch_up is not None:
            policy = {"action": self.missed or "CATCH_UP", "catch_up_limit": self.catch_up or 1}
            out["missed_run_policy"] = policy
        if self.labels:
            out["labels"] = parse_pairs(self.labels, flag="--label")
        if self.variables:
            out["variables"] = {**out.get("variables", {}), **parse_pairs(self.variables, flag="--variable")}
        self._job(out)
        return out

    def _job(self, out: dict[str, Any]) -> None:
        if self.task is None and not self.spec and self.priority is None:
            return
        job = dict(out.get("job_template") or {})
        if self.task is not None:
            job["task"] = self.task
        if self.spec:
            job["spec"] = {**(job.get("spec") or {}), **typed(parse_pairs(self.spec, flag="--spec"))}
        if self.priority is not None:
            job["priority"] = self.priority
        out["job_template"] = job


def schedule_of(given: Given, name: str = "") -> tuple[Schedule, list[str]]:
    """The message, and the fields that it sets. Raises InvalidArgument (TEMPLATE_INVALID)."""
    from hypersdk.api.schedules.v1 import schedules_pb2

    plain = given.plain()
    message = from_plain(plain, schedules_pb2.Schedule())
    message.name = name
    return message, sorted(plain)


def _file(path: Path) -> dict[str, Any]:
    """A template file; `job` is short for `job_template`. What `schedule get -o yaml` prints is one: what only the
    kernel sets is left out."""
    values = read_config_file(path, doing=f"reading the template {path}")
    if "job" in values:
        if "job_template" in values:
            raise InvalidArgument(f"{path}: job and job_template are the same; keep one", reason="TEMPLATE_INVALID")
        values["job_template"] = values.pop("job")
    return {key: value for key, value in values.items() if key not in _OURS}


_OURS = frozenset(
    {"name", "uid", "state", "pause_reason", "next_time", "next_start_time", "last_time", "last_job", "last_outcome",
     "last_error", "counts", "create_time", "update_time", "owner", "etag"}
)  # fmt: skip

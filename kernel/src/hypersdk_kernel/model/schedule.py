"""Schedules: what is to run, when, and what to do about times that were missed or that overlap. Pure.

The cursor is what makes an occurrence count once. It is the time of the last occurrence that was dealt with (run,
skipped or given up), only ever grows, and is advanced in the transaction that creates the occurrence's job.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hypersdk_kernel.model.timing import Timing

MAX_CATCH_UP = 100
MAX_QUEUED = 100
"""Runs of one schedule with the policy QUEUE that may wait; further occurrences are skipped."""
DEFAULT_MISSED_AFTER_S = 60.0
_COUNTED = 1000
_ID_CHARACTERS = 39


class MissedPolicy(enum.StrEnum):
    """What becomes of occurrences that passed while nobody could run them."""

    SKIP = "skip"
    RUN_ONCE = "run_once"  # the newest, for all of them
    CATCH_UP = "catch_up"  # the newest n, in order


class OverlapPolicy(enum.StrEnum):
    """What becomes of an occurrence while an earlier run of the same schedule has not ended."""

    FORBID = "forbid"  # it is skipped
    QUEUE = "queue"  # its job waits for those before it
    REPLACE = "replace"  # those before it are cancelled, and its job waits until they have ended


@dataclass(frozen=True, slots=True)
class Status:
    """What has become of a schedule. Times are seconds since the epoch.

    cursor           see the module's docstring
    next_time        the next occurrence; next_start_time the same with its jitter; None: paused, or there is none
    last_*           of the newest run: its occurrence, its job's id, the state its job ended in ("" before that)
    last_error       why the newest occurrence could not become a job, as HyperError.to_json; None once one could
    run_count        jobs created; the others count their ends, and occurrences without a job
    """

    cursor: float
    next_time: float | None = None
    next_start_time: float | None = None
    last_time: float | None = None
    last_job: str = ""
    last_outcome: str = ""
    last_error: Mapping[str, Any] | None = None
    run_count: int = 0
    succeeded_count: int = 0
    failed_count: int = 0
    cancelled_count: int = 0
    skipped_count: int = 0
    missed_count: int = 0
    refused_count: int = 0


@dataclass(frozen=True, slots=True)
class Schedule:
    """`template`: the job, as the API's Job in JSON, whose strings may hold variables (model.template). `revision`:
    of the last edit, and its etag; runs do not change it. `missed_after_s`: an occurrence counts as missed when it
    could not be run within that time. `job_deadline_s`: a job is to have ended so long after its occurrence; 0: no
    limit."""

    id: str
    uid: str
    owner: str
    timing: Timing
    template: Mapping[str, Any]
    status: Status
    create_time: float
    update_time: float
    variables: Mapping[str, str] = field(default_factory=dict)
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    jitter_s: float = 0.0
    job_deadline_s: float = 0.0
    missed: MissedPolicy = MissedPolicy.RUN_ONCE
    catch_up_limit: int = 1
    missed_after_s: float = DEFAULT_MISSED_AFTER_S
    overlap: OverlapPolicy = OverlapPolicy.FORBID
    paused: bool = False
    pause_reason: str = ""
    revision: int = 0

    @property
    def name(self) -> str:
        return f"schedules/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    @property
    def state(self) -> str:
        if self.paused:
            return "paused"
        return "finished" if self.status.next_time is None else "active"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due: occurrences to `run`, in order, after giving up `missed` of them, of which the last is
    `missed_until`. `more`: there were more than were counted."""

    run: tuple[float, ...]
    missed: int = 0
    missed_since: float | None = None
    missed_until: float | None = None
    more: bool = False


def start_time(schedule: Schedule, occurrence: float) -> float:
    """The occurrence with its jitter: drawn from the schedule's name and the occurrence, so always the same, and
    before the occurrence that follows, so never out of order."""
    if schedule.jitter_s <= 0:
        return occurrence
    following = schedule.timing.next_after(occurrence)
    width = schedule.jitter_s if following is None else min(schedule.jitter_s, following - occurrence)
    digest = hashlib.sha256(f"{schedule.id}\0{round(occurrence * 1000)}".encode()).digest()
    return occurrence + math.floor(int.from_bytes(digest[:8]) / 2**64 * width * 1000) / 1000


def plan(schedule: Schedule, now: float) -> Plan | None:
    """What to do at `now`; None when nothing is due."""
    if schedule.paused:
        return None
    due, more = schedule.timing.latest(schedule.status.cursor, now, _COUNTED)
    if due and start_time(schedule, due[-1]) > now:
        due.pop()
    if not due:
        return None
    on_time = now - start_time(schedule, due[-1]) <= schedule.missed_after_s
    if schedule.missed is MissedPolicy.SKIP:
        count = 1 if on_time else 0
    elif schedule.missed is MissedPolicy.RUN_ONCE:
        count = 1
    else:
        count = max(schedule.catch_up_limit, 1)
    cut = max(len(due) - count, 0)
    if cut == 0:
        return Plan(tuple(due))
    return Plan(tuple(due[cut:]), cut, due[0], due[cut - 1], more)


def advanced(schedule: Schedule, cursor: float, **changes: Any) -> Schedule:
    """With the cursor at `cursor`, or where it was if that is later, and the next times that follow from it."""
    cursor = max(cursor, schedule.status.cursor)
    following = None if schedule.paused else schedule.timing.next_after(cursor)
    begins = None if following is None else start_time(schedule, following)
    status = replace(schedule.status, cursor=cursor, next_time=following, next_start_time=begins, **changes)
    return replace(schedule, status=status)


def job_id(schedule: Schedule, occurrence: float, run: int | None = None) -> str:
    """The id of the job of an occurrence: readable, always the same, and another for a schedule made anew. `run`: the
    number of a manual run, which has an id of its own even at the very moment of an occurrence."""
    stamp = datetime.fromtimestamp(occurrence, UTC).strftime("%Y%m%dt%H%M%S").lower()
    which = f"{schedule.uid}\0{occurrence!r}" + ("" if run is None else f"\0{run}")
    tail = hashlib.sha256(which.encode()).hexdigest()[:6]
    return f"{schedule.id[:_ID_CHARACTERS]}-{stamp}-{tail}"

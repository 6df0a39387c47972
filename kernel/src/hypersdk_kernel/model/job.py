"""Jobs and their life, as a table.

A job is acknowledged when it is in the store, and from then on is always in exactly one state. What may happen in a
state is
TRANSITIONS and nothing else; `next_state` refuses the rest.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.model.delay import Delay
from hypersdk_kernel.model.dependency import Dependency, Unmet
from hypersdk_kernel.model.retry import RetryPolicy


class JobState(enum.StrEnum):
    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobEvent(enum.StrEnum):
    """What can happen to a job."""

    HOLD = "hold"  # something other than room keeps it back
    RELEASE = "release"  # nothing keeps it back any more
    DISPATCH = "dispatch"  # an attempt starts
    PAUSE = "pause"
    RESUME = "resume"  # its runner still lives
    REQUEUE = "requeue"  # resume without a runner; or the back-off of a retry is over
    SUCCEED = "succeed"
    FAIL = "fail"  # for good
    FAIL_RETRYABLE = "fail_retryable"  # an attempt failed or was lost, and another is due
    CANCEL = "cancel"  # nothing of it runs any more
    RETRY = "retry"  # an operator wants it again


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""States that only an operator's RETRY leaves, and SUCCEEDED not even that."""

_Q, _W, _R, _P, _Y = JobState.QUEUED, JobState.WAITING, JobState.RUNNING, JobState.PAUSED, JobState.RETRYING
_S, _F, _C = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
_E = JobEvent

TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    (_Q, _E.HOLD): _W, (_Q, _E.DISPATCH): _R, (_Q, _E.PAUSE): _P, (_Q, _E.CANCEL): _C, (_Q, _E.FAIL): _F,
    (_W, _E.RELEASE): _Q, (_W, _E.HOLD): _W, (_W, _E.PAUSE): _P, (_W, _E.CANCEL): _C, (_W, _E.FAIL): _F,
    (_R, _E.PAUSE): _P, (_R, _E.SUCCEED): _S, (_R, _E.FAIL): _F, (_R, _E.FAIL_RETRYABLE): _Y, (_R, _E.CANCEL): _C,
    (_P, _E.RESUME): _R, (_P, _E.REQUEUE): _Q, (_P, _E.SUCCEED): _S, (_P, _E.FAIL): _F,
    (_P, _E.CANCEL): _C,
    (_Y, _E.REQUEUE): _Q, (_Y, _E.PAUSE): _P, (_Y, _E.CANCEL): _C, (_Y, _E.FAIL): _F,
    (_F, _E.RETRY): _Q, (_C, _E.RETRY): _Q,
}  # fmt: skip


def next_state(state: JobState, event: JobEvent) -> JobState:
    """Where `event` leads from `state`. Raises FailedPrecondition (JOB_STATE) when it is not in the table."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        allowed = sorted(e.value for s, e in TRANSITIONS if s is state)
        raise FailedPrecondition(
            f"a job that is {state.value} cannot {event.value.replace('_', ' ')}"
            + (f"; possible are: {', '.join(allowed)}" if allowed else ""),
            reason="JOB_STATE",
            metadata={"state": state.value, "event": event.value},
        ) from None


@dataclass(frozen=True, slots=True)
class Progress:
    """As hypersdk.plugin.Progress, with wall time in seconds and the rate over the last seconds, bytes/s. -1:
    unknown."""

    phase: str = ""
    bytes_done: int = 0
    bytes_total: int = -1
    bytes_read: int = 0
    bytes_written: int = 0
    message: str = ""
    update_time: float = 0.0
    rate_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pin:
    """A plugin generation that a job runs with. `digest`: hex SHA-256 of its files; `api_version` "major.minor"."""

    generation: str
    distribution: str
    version: str
    digest: str
    api_version: str
    components: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a task. Times are seconds since the epoch. `error` is a HyperError's `to_json`. `revision` is that
    of the last event about it and serves as etag.

    dependencies   it waits for all of them; `unmet` says what becomes of it when one cannot come true any more
    group          the id of the job group it was submitted with
    not_before     no attempt starts earlier
    deadline       by then it has ended, or it fails (DEADLINE_PASSED)
    max_run_s      an attempt that runs longer fails (RUN_TIME_EXCEEDED); 0: no limit
    window         id of the window in which it may run; empty: at any time
    rank           before others whatever their priority: an operator's reordering; 0 is where it came
    executor       where its runner is placed: `local`, or an executor component's id
    placement      labels that the place must have
    trace_parent   W3C trace context of the call that made it
    stop           why the kernel had its attempt stopped, and what follows: {"then": fail | cancel | wait, "error": …}
    paused_by      who paused it: an actor, or `window`
    attempt_start  when its last attempt started
    schedule       id of the schedule that made it, and `scheduled_time` the occurrence it was made for; `schedule_uid`
                   tells a schedule of the same name that was made anew
    delay          it may start later, when a carbon or price source advises it; `planned_start` and `planned_reason`
                   are what that said, None before it was asked
    """

    id: str
    uid: str
    task: str
    spec: Mapping[str, Any]
    state: JobState
    create_time: float
    update_time: float
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 50
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    bandwidth_limit_bytes: int = 0
    state_message: str = ""
    start_time: float | None = None
    end_time: float | None = None
    next_attempt_time: float | None = None
    attempt_count: int = 0
    progress: Progress | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    cancel_requested: bool = False
    pins: tuple[Pin, ...] = ()
    revision: int = 0
    owner: str = ""
    dependencies: tuple[Dependency, ...] = ()
    unmet: Unmet = Unmet.CANCEL
    group: str = ""
    not_before: float | None = None
    deadline: float | None = None
    max_run_s: float = 0.0
    window: str = ""
    rank: int = 0
    executor: str = "local"
    placement: Mapping[str, str] = field(default_factory=dict)
    trace_parent: str = ""
    stop: Mapping[str, Any] | None = None
    paused_by: str = ""
    attempt_start: float | None = None
    schedule: str = ""
    schedule_uid: str = ""
    scheduled_time: float | None = None
    delay: Delay | None = None
    planned_start: float | None = None
    planned_reason: str = ""

    @property
    def name(self) -> str:
        return f"jobs/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a client asks for; see Job."""

    id: str
    task: str
    spec: Mapping[str, Any]
    display_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 50
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    bandwidth_limit_bytes: int = 0
    dependencies: tuple[Dependency, ...] = ()
    unmet: Unmet = Unmet.CANCEL
    group: str = ""
    not_before: float | None = None
    deadline: float | None = None
    max_run_s: float = 0.0
    window: str = ""
    executor: str = "local"
    placement: Mapping[str, str] = field(default_factory=dict)
    trace_parent: str = ""
    schedule: str = ""
    scheduled_time: float | None = None
    delay: Delay | None = None


def numbered(job: Job, revision: int) -> Job:
    """`job`, which nobody else has seen yet, with its first revision. In place: the copy that `dataclasses.replace`
    makes costs more than adding the job's row."""
    object.__setattr__(job, "revision", revision)
    return job


class AttemptState(enum.StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a job by one runner. `number` counts from 1. `place`: where, when not in a process of its own on
    the kernel's machine."""

    job_id: str
    number: int
    state: AttemptState
    start_time: float
    end_time: float | None = None
    error: Mapping[str, Any] | None = None
    progress: Progress | None = None
    runner_pid: int = 0
    resumed: bool = False
    place: str = ""

    @property
    def name(self) -> str:
        return f"jobs/{self.job_id}/attempts/{self.number}"

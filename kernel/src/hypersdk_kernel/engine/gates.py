"""Gates: what keeps a job from being queued, apart from room.

A job passes every gate before it is queued, and again before each attempt. A gate answers at once, from memory and
point reads; one that has to ask somebody first holds the job, asks, and has it reconsidered (`Reconsider`) when it
knows. A gate that is stateful keys what it knows by job id and forgets it in `forget`.

Not here: order and limits among jobs that are ready (queue).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from hypersdk.errors import HyperError

from hypersdk_kernel.model.job import Job, JobEvent


class NotAtHand(LookupError):
    """A server would have to be asked, which a gate must not wait for."""


Reconsider = Callable[[Iterable[str]], None]
"""Look at the gates of these jobs again, soon."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The job waits.

    reason   stable, UPPER_CASE: DEPENDENCY, NOT_BEFORE, WINDOW_CLOSED, …
    message  in words, as `job explain` shows it
    until    when to look again, seconds since the epoch; None: when the gate says so
    remedy   what would make it run
    """

    reason: str
    message: str
    until: float | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Doom:
    """The job can never run: it ends by `event` (FAIL or CANCEL) with `error`."""

    event: JobEvent
    error: HyperError


class Gate(Protocol):
    """One reason to wait. Called on the loop only; must not block."""

    def judge(self, job: Job, now: float, /) -> Hold | Doom | None:
        """None: nothing here keeps `job` back at `now` (seconds since the epoch)."""
        ...

    def forget(self, job_id: str) -> None:
        """The job has passed, or ended, or is held by somebody else."""
        ...

"""Why a job is where it is, in words, and what would make it go on."""

from __future__ import annotations

from dataclasses import dataclass

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.gates import Doom, Hold
from hypersdk_kernel.engine.maintenance import Mode, QueueControl
from hypersdk_kernel.engine.overrun import WINDOW
from hypersdk_kernel.engine.timegate import moment
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobState


@dataclass(frozen=True, slots=True)
class Explanation:
    """`summary` is a sentence. `hindrances`: everything that keeps it from running now, the first first.
    `queue_position`: how many queued jobs are before it."""

    summary: str
    hindrances: tuple[Hold, ...] = ()
    queue_position: int = 0


class Explainer:
    """Asks every part that has a say."""

    def __init__(self, clock: Clock, dispatcher: Dispatcher, control: QueueControl) -> None:
        self._clock = clock
        self._dispatcher = dispatcher
        self._control = control

    def explain(self, job: Job) -> Explanation:
        if job.terminal:
            return Explanation(_ended(job))
        if job.cancel_requested:
            return Explanation("it is being cancelled: its runner is stopping and cleaning up")
        if job.state is JobState.RUNNING:
            return Explanation(f"it runs: attempt {job.attempt_count}")
        if job.state is JobState.PAUSED:
            return _paused(job)
        hindrances = [_as_hold(verdict) for verdict in self._dispatcher.admission.verdicts(job)]
        if job.state is JobState.RETRYING and job.next_attempt_time is not None:
            hindrances.insert(0, _retrying(job))
        position, room = self._room(job)
        hindrances += room
        if not hindrances:
            return Explanation("nothing keeps it back: it starts at once", (), position)
        return Explanation(hindrances[0].message, tuple(hindrances), position)

    def _room(self, job: Job) -> tuple[int, list[Hold]]:
        found: list[Hold] = []
        if self._control.mode is not Mode.OPEN:
            why = f": {self._control.mode_reason}" if self._control.mode_reason else ""
            found.append(
                Hold("MAINTENANCE", f"nothing starts: the queue is {self._control.mode.value}{why}", None,
                     "`hyperctl queue open`")
            )  # fmt: skip
        standing = self._dispatcher.queue.standing(job.id, self._clock.now())
        if standing is None:
            return 0, found
        before, limit, until = standing
        if limit:
            found.append(Hold("LIMIT", limit, until, "wait for one of those that run, or raise the limit"))
        most = self._dispatcher.settings.max_runners
        if self._dispatcher.running >= most:
            text = f"all {most} places for runners are taken, and {before} jobs are before it"
            found.append(Hold("ROOM", text, None, "wait, move it to the front, or raise max_runners"))
        elif before and not limit:
            found.append(Hold("ORDER", f"{before} jobs are before it", None, "wait, or move it to the front"))
        return before, found


def _paused(job: Job) -> Explanation:
    if job.paused_by == WINDOW:
        remedy = "it goes on by itself when the window opens"
        return Explanation(job.state_message, (Hold("PAUSED", job.state_message, None, remedy),))
    text = f"it was paused by {job.paused_by or 'an operator'}"
    return Explanation(text, (Hold("PAUSED", text, None, f"`hyperctl job resume {job.id}`"),))


def _retrying(job: Job) -> Hold:
    when = job.next_attempt_time or 0.0
    why = str((job.error or {}).get("message") or "it failed")
    text = f"attempt {job.attempt_count} failed ({why}); the next is at {moment(when)}"
    return Hold("RETRY_DELAY", text, when, "wait for the delay of its retry policy")


def _as_hold(verdict: Hold | Doom) -> Hold:
    if isinstance(verdict, Hold):
        return verdict
    return Hold(verdict.error.reason, verdict.error.message, None, "it is about to end; submit it anew")


def _ended(job: Job) -> str:
    text = f"it has ended: {job.state.value}"
    return f"{text}: {job.state_message}" if job.state_message else text

"""What other kernels' clients asked for, done by the leader.

A follower writes a change of a job into the store as the leader does (Jobs), and has nothing to start or stop. The
leader hears of the change from the event log and does here what Jobs would have had it do. Hearing of one twice, or
late, is harmless: a job is looked at as it is, not as the change said.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store import codec


class ForeignChanges:
    """Hung into `store.on_foreign`; does nothing while its dispatcher is not active."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, events: Sequence[Event]) -> None:
        if not self._dispatcher.active:
            return
        newest: dict[str, Job] = {}
        for event in events:
            job = codec.job_of(event.payload)
            if job is not None:
                newest[job.id] = job
        for job in newest.values():
            self._follow(job)

    def _follow(self, job: Job) -> None:
        dispatcher = self._dispatcher
        runner = dispatcher.runner(job.id)
        if job.terminal:
            dispatcher.forget(job.id)
        elif job.cancel_requested:
            if runner is not None:
                dispatcher.ask_cancel(runner, "cancelled through another kernel")
            elif not dispatcher.starting(job.id):
                dispatcher.end_without_runner(job)
        elif job.state in {JobState.QUEUED, JobState.WAITING}:
            dispatcher.ready(job)
        elif job.state is JobState.PAUSED:
            dispatcher.forget(job.id)
            if runner is not None:
                runner.pause()
                dispatcher.paused(job)
        elif job.state is JobState.RUNNING and runner is not None and runner.paused:
            runner.resume()
            dispatcher.resumed(job)

"""Between the dispatcher and the warm workers: which brief jobs are taken, and what is kept of those that run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hypersdk.errors import HyperError

from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.engine.briefpool import BriefPool
from hypersdk_kernel.engine.briefs import BATCH, BriefAttempt, Briefs
from hypersdk_kernel.engine.prepare import Preparer
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store.engine import LeaderStore

if TYPE_CHECKING:
    from hypersdk_kernel.engine.dispatcher import Dispatcher


class BriefDesk:
    """The owner of Briefs. Its life: `recover` at the start, `pump` whenever something may start, `stop`.

    jobs  those that were taken from the queue and have not ended
    """

    def __init__(
        self, dispatcher: Dispatcher, store: LeaderStore, clock: Clock, preparer: Preparer, pool: BriefPool
    ) -> None:
        self.jobs: set[str] = set()
        self._dispatcher = dispatcher
        self._briefs = Briefs(store, clock, preparer, pool, self)
        self._background = Background()

    def starting(self, job_id: str) -> bool:
        """It was taken, and its attempt has not begun."""
        return job_id in self.jobs and job_id not in self._dispatcher.runners

    def pump(self, now: float) -> None:
        """Take what there is room for."""
        while self._briefs.room:
            batch: list[str] = []
            while len(batch) < BATCH and (job_id := self._dispatcher.queue.pop(now, brief=True)) is not None:
                batch.append(job_id)
            if not batch:
                return
            self.jobs.update(batch)
            self._briefs.take(batch, lambda job: self._dispatcher.admission.judge(job) is None)

    async def recover(self, jobs: Iterable[tuple[Job, str]]) -> None:
        """Settle what an earlier kernel's workers did: (job, worker id)."""
        found = list(jobs)
        self.jobs.update(job.id for job, _ in found)
        await self._briefs.recover(found)

    async def stop(self) -> None:
        await self._briefs.stop()
        await self._background.stop()

    # What Briefs tells.

    def brief_begun(self, job: Job, attempt: BriefAttempt) -> None:
        self._dispatcher.runners[job.id] = attempt
        self._dispatcher.overrun.watch(job)
        if job.cancel_requested:
            attempt.cancel("cancelled while it was being started")

    def brief_ended(self, job: Job) -> None:
        self._dispatcher.runners.pop(job.id, None)
        self.jobs.discard(job.id)
        self._dispatcher.queue.ended(job.id)
        self._dispatcher.overrun.forget(job.id)
        if job.state is JobState.RETRYING:
            self._dispatcher.later(job)

    def brief_refused(self, job_id: str, error: HyperError | None) -> None:
        """It was not begun, for `error` or because it may not start now; without an id: there is room again."""
        if job_id:
            self.jobs.discard(job_id)
            self._dispatcher.queue.ended(job_id)
            if error is not None:
                self._background.spawn(self._dispatcher.start_failed(job_id, error, begun=False))
            else:
                self._dispatcher.admission.reconsider([job_id])
        self._dispatcher.pump()

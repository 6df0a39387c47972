"""WatchJobs: jobs as they are, then every change of state, and progress in between.

From revision 0 the present comes first: the named jobs, or all that have not ended. Its messages carry revision 0,
so that a client which loses the stream half-way through starts over; the last of them carries the revision from
which changes follow. A job that changed while the present was being read is newer than that revision, and its older
events are left out.

Progress is kept as the newest of each job and sent at most 5 times a second: a slow reader gets fewer, not older
ones.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable

from hypersdk.api.jobs.v1 import jobs_pb2 as pb

from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.events.bus import Bus, Subscription
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.store import codec

PROGRESS_S = 0.2
"""Least time between two progress messages of one job, seconds."""
_CACHED = 1024


class JobWatcher:
    """Serves any number of streams; keeps the messages of recent events, which are the same in each."""

    def __init__(self, jobs: Jobs, bus: Bus, heartbeat_s: float) -> None:
        self._jobs = jobs
        self._bus = bus
        self._heartbeat_s = heartbeat_s
        self._messages: OrderedDict[int, pb.WatchJobsResponse] = OrderedDict()

    async def stream(self, request: pb.WatchJobsRequest) -> AsyncIterator[pb.WatchJobsResponse]:
        """Raises NotFound (JOB_NOT_FOUND) for a named job at revision 0, and what Subscription.next raises."""
        ids = frozenset(id_of(name, "jobs", "names") for name in request.names)
        revision = request.since_revision
        present: AsyncIterator[Job] | None = None
        if revision == 0:
            revision, present = await self._present(ids)
        subscription = self._bus.subscribe(revision, _accepts(ids))
        progress = _Progress(ids, subscription)
        if not request.states_only:
            self._jobs.on_progress.append(progress.offer)
        try:
            newer: dict[str, int] = {}
            if present is not None:
                held: Job | None = None
                async for job in present:
                    if held is not None:
                        yield _present_message(held, 0)
                    held = job
                    if job.revision > revision:
                        newer[job.id] = job.revision
                yield pb.WatchJobsResponse(revision=revision) if held is None else _present_message(held, revision)
            async for message in self._changes(subscription, progress, newer):
                yield message
        finally:
            subscription.close()
            if not request.states_only:
                self._jobs.on_progress.remove(progress.offer)

    async def _present(self, ids: Iterable[str]) -> tuple[int, AsyncIterator[Job]]:
        if not ids:
            return self._jobs.unfinished()
        revision = self._bus.last_revision
        return revision, _each([await self._jobs.get(job_id) for job_id in sorted(ids)])

    async def _changes(
        self, subscription: Subscription, progress: _Progress, newer: dict[str, int]
    ) -> AsyncIterator[pb.WatchJobsResponse]:
        heartbeat = time.monotonic() + self._heartbeat_s
        while True:
            now = time.monotonic()
            event = await subscription.next(max(min(heartbeat, progress.due()) - now, 0.0))
            now = time.monotonic()
            if event is not None:
                message = self._message(event)
                progress.settle(message.job)
                job_id = event.subject.partition("/")[2]
                if event.revision > newer.get(job_id, 0):
                    newer.pop(job_id, None)
                    yield message
                    heartbeat = now + self._heartbeat_s
                continue
            for job in progress.take(now):
                yield pb.WatchJobsResponse(
                    revision=subscription.position, job=job_message(job), event_type="job.progress"
                )
                heartbeat = now + self._heartbeat_s
            if now >= heartbeat:
                yield pb.WatchJobsResponse(revision=subscription.position)
                heartbeat = now + self._heartbeat_s

    def _message(self, event: Event) -> pb.WatchJobsResponse:
        found = self._messages.get(event.revision)
        if found is None:
            job = codec.job_of(event.payload)
            assert job is not None  # _accepts lets no other through
            found = pb.WatchJobsResponse(revision=event.revision, job=job_message(job), event_type=event.type)
            self._messages[event.revision] = found
            if len(self._messages) > _CACHED:
                self._messages.popitem(last=False)
        return found


class _Progress:
    """The newest progress of each job that one stream has yet to send."""

    def __init__(self, ids: frozenset[str], subscription: Subscription) -> None:
        self._ids = ids
        self._subscription = subscription
        self._pending: dict[str, Job] = {}
        self._sent: dict[str, float] = {}

    def offer(self, job: Job) -> None:
        if self._ids and job.id not in self._ids:
            return
        if not self._pending:
            self._subscription.wake()
        self._pending[job.id] = job

    def settle(self, job: pb.Job) -> None:
        """A change of state came: progress from before it is not worth sending any more."""
        job_id = job.name.partition("/")[2]
        self._pending.pop(job_id, None)
        if job.HasField("end_time"):
            self._sent.pop(job_id, None)

    def due(self) -> float:
        """When the next one may be sent, monotonic seconds; infinite when there is none."""
        return min((self._sent.get(job_id, 0.0) + PROGRESS_S for job_id in self._pending), default=float("inf"))

    def take(self, now: float) -> list[Job]:
        due = [job_id for job_id in self._pending if self._sent.get(job_id, 0.0) + PROGRESS_S <= now]
        for job_id in due:
            self._sent[job_id] = now
        return [self._pending.pop(job_id) for job_id in due]


def _accepts(ids: frozenset[str]) -> Callable[[Event], bool]:
    names = {f"jobs/{job_id}" for job_id in ids}
    if names:
        return lambda event: event.subject in names and "job" in event.payload
    return lambda event: "job" in event.payload


async def _each(jobs: Iterable[Job]) -> AsyncIterator[Job]:
    for job in jobs:
        yield job


def _present_message(job: Job, revision: int) -> pb.WatchJobsResponse:
    return pb.WatchJobsResponse(revision=revision, job=job_message(job), event_type=f"job.{job.state.value}")

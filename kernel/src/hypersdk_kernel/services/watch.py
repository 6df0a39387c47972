"""WatchJobs: jobs as they are, then every change of state, and progress in between.

From revision 0 the present comes first: the named jobs, or all that have not ended. Its messages carry revision 0,
so that a client which loses the stream half-way through starts over; the last of them carries the revision from
which changes follow. A job that changed while the present was being read is newer than that revision, and its older
events are left out.

Progress is kept as the newest of each job and sent at most 5 times a second: a slow reader gets fewer, not older
ones.

A slow reader of the present is waited for: it holds one page, and reads what came meanwhile from the log. It is ended
only when more events wait for it live than the bus keeps (SUBSCRIBER_TOO_SLOW), or the log no longer has its revision
(REVISION_GONE).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable

from hypersdk.api.jobs.v1 import jobs_pb2 as pb

from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.events.bus import Bus, Subscription
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import TERMINAL, Job
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.services.present import Present, Row
from hypersdk_kernel.services.streaming import Page, Part, Written
from hypersdk_kernel.store import codec

PROGRESS_S = 0.2
"""Least time between two progress messages of one job, seconds."""
_ENDS = frozenset(f"job.{state.value}" for state in TERMINAL)
_WRITTEN = 1024
"""Changes, and jobs in progress, whose messages are kept."""


class JobWatcher:
    """Serves any number of streams; keeps the messages of recent changes, which are the same in each."""

    def __init__(self, jobs: Jobs, bus: Bus, heartbeat_s: float) -> None:
        self._jobs = jobs
        self._bus = bus
        self._heartbeat_s = heartbeat_s
        self._present = Present(jobs, bus)
        self._changes_written = Written(_change, _WRITTEN)
        self._progress_written = Written(_progress, _WRITTEN)

    async def stream(self, request: pb.WatchJobsRequest) -> AsyncIterator[Part]:
        """Raises NotFound (JOB_NOT_FOUND) for a named job at revision 0, and what Subscription.next raises."""
        ids = frozenset(id_of(name, "jobs", "names") for name in request.names)
        revision = request.since_revision
        present: AsyncGenerator[list[Row], None] | None = None
        if revision == 0:
            revision = self._bus.last_revision
            present = _one([Row(job) for job in await self._all(ids)]) if ids else self._present.pages(revision)
        subscription = self._bus.subscribe(revision, _accepts(ids))
        progress = _Progress(ids, subscription)
        if not request.states_only:
            self._jobs.on_progress.append(progress.offer)
        try:
            newer: dict[str, int] = {}
            if present is not None:
                async with contextlib.aclosing(_ending_with(revision, present, newer)) as pages:
                    async for page in pages:
                        yield page
            async for part in self._changes(subscription, progress, newer):
                yield part
        finally:
            subscription.close()
            if not request.states_only:
                self._jobs.on_progress.remove(progress.offer)

    async def _all(self, ids: Iterable[str]) -> list[Job]:
        return [await self._jobs.get(job_id) for job_id in sorted(ids)]

    async def _changes(
        self, subscription: Subscription, progress: _Progress, newer: dict[str, int]
    ) -> AsyncIterator[Part]:
        heartbeat = time.monotonic() + self._heartbeat_s
        while True:
            now = time.monotonic()
            event = await subscription.next(max(min(heartbeat, progress.due()) - now, 0.0))
            now = time.monotonic()
            if event is not None:
                page = [self._change_of(each, progress, newer) for each in (event, *subscription.waiting())]
            else:
                page = [self._progress_of(job, subscription.position) for job in progress.take(now)]
            told = Page(data for data in page if data)
            if told:
                yield told
                heartbeat = now + self._heartbeat_s
            elif event is None and now >= heartbeat:
                yield pb.WatchJobsResponse(revision=subscription.position)
                heartbeat = now + self._heartbeat_s

    def _change_of(self, event: Event, progress: _Progress, newer: dict[str, int]) -> bytes:
        """Its message; empty when the present was newer."""
        job_id = event.subject.partition("/")[2]
        progress.settle(job_id, ended=event.type in _ENDS)
        if event.revision <= newer.get(job_id, 0):
            return b""
        newer.pop(job_id, None)
        return self._changes_written.of(event.revision, event)

    def _progress_of(self, job: Job, position: int) -> bytes:
        return self._progress_written.of((job.id, job.revision, job.progress), job) + _revision(position)


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

    def settle(self, job_id: str, *, ended: bool) -> None:
        """A change of state came: progress from before it is not worth sending any more."""
        self._pending.pop(job_id, None)
        if ended:
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


async def _one(page: list[Row]) -> AsyncGenerator[list[Row], None]:
    yield page


async def _ending_with(
    revision: int, present: AsyncGenerator[list[Row], None], newer: dict[str, int]
) -> AsyncGenerator[Page, None]:
    """The pages of the present, `revision` in the last message. `newer` gets the jobs that changed after it."""
    held = Page()
    async with contextlib.aclosing(present):
        async for rows in present:
            if held:
                yield held
            held = Page(row.data for row in rows)
            newer.update((row.job.id, row.job.revision) for row in rows if row.job.revision > revision)
    *others, last = held or (b"",)
    yield Page((*others, last + _revision(revision)))


def _revision(revision: int) -> bytes:
    """Appended to a message in its wire form, it sets the revision."""
    return pb.WatchJobsResponse(revision=revision).SerializeToString()


def _change(event: Event) -> bytes:
    job = codec.job_of(event.payload)
    assert job is not None  # _accepts lets no other through
    return pb.WatchJobsResponse(
        revision=event.revision, job=job_message(job), event_type=event.type
    ).SerializeToString()


def _progress(job: Job) -> bytes:
    return pb.WatchJobsResponse(job=job_message(job), event_type="job.progress").SerializeToString()

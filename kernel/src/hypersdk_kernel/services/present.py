"""The present of WatchJobs: all jobs that have not ended, page by page, each page read and written once for all the
streams that begin at about the same time.

A stream may have any page that was read no earlier than it began: what changed since its revision is then in the page
or comes as an event. So a page is kept until a stream that began later asks for it; streams that ask while it is
being read anew share that reading too.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from hypersdk.api.jobs.v1 import jobs_pb2 as pb

from hypersdk_kernel.model.job import Job
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.store.jobs import Place

KEPT_BYTES = 8 << 20
"""Of pages, as they are counted here: 2,500 queued jobs without a spec."""
_JOB_BYTES = 3000
"""What a job takes in memory beside its message, some."""


class Unfinished(Protocol):
    """engine.Jobs, as far as the present needs it."""

    async def unfinished(self, after: Place | None) -> tuple[list[Job], Place | None]: ...

    def live(self, job: Job) -> Job: ...


class Revisions(Protocol):
    """events.bus.Bus, as far as the present needs it."""

    @property
    def last_revision(self) -> int: ...


class Row:
    """A job of the present, `data` its message without a revision."""

    __slots__ = ("_shown", "data", "job")

    def __init__(self, job: Job) -> None:
        self.job = self._shown = job
        self.data = _written(job)

    def show(self, live: Job) -> None:
        if live is not self._shown:
            self._shown, self.data = live, _written(live)


@dataclass(frozen=True, slots=True)
class _Page:
    revision: int
    rows: list[Row]
    end: Place | None

    size: int


class Present:
    """Serves any number of streams; keeps nothing while there is none."""

    def __init__(self, jobs: Unfinished, revisions: Revisions) -> None:
        self._jobs = jobs
        self._revisions = revisions
        self._reading = asyncio.Lock()
        self._kept: OrderedDict[Place | None, _Page] = OrderedDict()
        self._size = 0
        self._streams = 0

    async def pages(self, since: int) -> AsyncGenerator[list[Row], None]:
        """For a stream that hears of every change after revision `since`, the newest one now."""
        self._streams += 1
        try:
            page = await self._page(None, since)
            while page.rows:
                for row in page.rows:
                    row.show(self._jobs.live(row.job))
                yield page.rows
                page = await self._page(page.end, since)
        finally:
            self._streams -= 1
            if not self._streams:
                self._kept.clear()
                self._size = 0

    async def _page(self, after: Place | None, since: int) -> _Page:
        async with self._reading:
            found = self._kept.get(after)
            if found is None or found.revision < since:
                revision = self._revisions.last_revision
                jobs, end = await self._jobs.unfinished(after)
                rows = [Row(job) for job in jobs]
                found = _Page(revision, rows, end, sum(_JOB_BYTES + len(row.data) for row in rows))
                self._keep(after, found)
            return found

    def _keep(self, after: Place | None, page: _Page) -> None:
        old = self._kept.pop(after, None)
        self._kept[after] = page
        self._size += page.size - (old.size if old is not None else 0)
        while self._size > KEPT_BYTES and self._kept:
            self._size -= self._kept.popitem(last=False)[1].size


def _written(job: Job) -> bytes:
    return pb.WatchJobsResponse(job=job_message(job), event_type=f"job.{job.state.value}").SerializeToString()

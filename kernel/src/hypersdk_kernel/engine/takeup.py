"""What an earlier kernel left unfinished, read piece by piece: a hundred thousand queued jobs are neither in memory at
once nor a standstill of the loop.

Not here: what becomes of what had begun (dispatcher).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobState
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import LeaderStore

if TYPE_CHECKING:
    from hypersdk_kernel.engine.dispatcher import Dispatcher

PAGE = 500
"""Jobs read at once."""
_BEGUN = (JobState.RUNNING, JobState.PAUSED, JobState.RETRYING)
_WAITING = (JobState.QUEUED, JobState.WAITING)


async def begun(store: LeaderStore) -> AsyncIterator[tuple[Job, Attempt | None]]:
    """Each job that has begun and not ended, with its last attempt if that is open as far as the store knows."""
    for job in await store.read(lambda conn: rows.in_states(conn, _BEGUN)):
        yield job, await _open_attempt(store, job)


async def waiting(store: LeaderStore) -> AsyncIterator[list[Job]]:
    """The others that have not ended, some at a time. A job may have changed since it was read; who starts it looks
    again."""
    for state in _WAITING:
        after: tuple[float, str] | None = None
        while page := await store.read(lambda conn, s=state, a=after: rows.in_state(conn, s, PAGE, a)):  # type: ignore[misc]
            yield page
            after = page[-1].create_time, page[-1].id


async def take(dispatcher: Dispatcher, pages: AsyncIterator[list[Job]], most: int | None = None) -> None:
    """Queue or hold those of `pages`, about `most` of them."""
    taken = 0
    async for page in pages:
        if not dispatcher.active:
            return
        for job in page:
            if job.cancel_requested:
                dispatcher.end_without_runner(job)
            else:
                dispatcher.admission.take(job)
        dispatcher.pump()
        taken += len(page)
        if most is not None and taken >= most:
            return


async def _open_attempt(store: LeaderStore, job: Job) -> Attempt | None:
    if job.state not in {JobState.RUNNING, JobState.PAUSED} or job.attempt_count == 0:
        return None
    attempt = await store.near(lambda conn: rows.get_attempt(conn, job.id, job.attempt_count))
    return attempt if attempt is not None and attempt.state is AttemptState.RUNNING else None

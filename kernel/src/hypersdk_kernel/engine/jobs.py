"""Jobs: what clients ask of jobs. Every change is one store transaction; the dispatcher hears of it afterwards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.gates import NotAtHand
from hypersdk_kernel.engine.submission import Submission, exists
from hypersdk_kernel.engine.transitions import change, has_open_attempt, load, not_found, note, stands
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Attempt, AttemptState, Job, JobEvent, JobState, NewJob, Progress, next_state
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once
from hypersdk_kernel.store.requests import keys as request_keys
from hypersdk_kernel.store.sheaf import Sheaf

_RECENT = 4096
"""Jobs kept in memory for GetJob, which is then free of SQL: 140 µs a read became 2."""

PAGE = 200
"""Jobs of a list that is read as it is sent: a watcher of a hundred thousand holds so many."""

_CODEC = (codec.job_encoded, codec.job_from_json)


class Jobs:
    """See the module's docstring. `actor` is who asks (`local`, `token`); `key` makes a repeated request harmless."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        submission: Submission,
        dispatcher: Dispatcher,
    ) -> None:
        self.on_progress: list[Callable[[Job], None]] = []
        self._store = store
        self._clock = clock
        self._submission = submission
        self._dispatcher = dispatcher
        self._recent: OrderedDict[str, Job] = OrderedDict()
        self._lively: dict[str, tuple[Job, Job]] = {}
        """Running jobs without and with their progress, so that who asks twice in between gets the same object."""
        store.on_commit.append(self._remember)
        dispatcher.on_progress.append(self._tell_progress)

    async def create(
        self,
        new: NewJob,
        *,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
        beside: Callable[[Tx, Job], Job] | None = None,
    ) -> Job:
        """Queue a job; durable when this returns. `beside` runs in the transaction that adds the job and returns the
        job to add; what it raises undoes both. Raises as Submission.draft and Submission.write; AlreadyExists
        (REQUEST_ID_REUSED)."""
        draft = await self._submission.draft(new, actor)
        if validate_only:
            if await self._store.read(lambda conn: rows.exists(conn, new.id)):
                raise exists(draft.job.name)
            return draft.job

        def add(tx: Tx) -> Job:
            return self._submission.write(tx, [draft], actor, beside)[0]

        looked_up = (*request_keys(key), *rows.keys(draft.job.id))
        made = await self._store.write(
            lambda tx: once(tx, key, *_CODEC, lambda: add(tx)), keys=looked_up, brief=beside is None
        )
        if made.uid == draft.job.uid:  # not the remembered answer of an earlier request
            self._dispatcher.ready(made)
        return made

    async def create_many(
        self, news: Sequence[NewJob], *, actor: str, key: RequestKey | None = None, validate_only: bool = False
    ) -> list[Job]:
        """As `create`, all or none, in one transaction; they may depend on each other. Raises as `create`, and
        InvalidArgument (DEPENDENCY_CYCLE)."""
        self._submission.check_batch(news)
        drafts = [await self._submission.draft(new, actor) for new in news]
        if validate_only:
            return [draft.job for draft in drafts]
        looked_up = [*request_keys(key), *(k for new in news for k in rows.keys(new.id))]
        made = await self._store.write(
            lambda tx: once(tx, key, _jobs_to_json, _jobs_from_json, lambda: self._submission.write(tx, drafts, actor)),
            keys=looked_up,
        )
        if made[0].uid == drafts[0].job.uid:
            self.taken_in(made)
        return made

    def taken_in(self, made: Sequence[Job]) -> None:
        """New jobs are in the store."""
        if not self._dispatcher.active:
            return  # the leader hears of them from there
        for job in made:
            self._dispatcher.admission.take(job)
        self._dispatcher.pump()

    async def get(self, job_id: str) -> Job:
        """With live progress. Raises NotFound (JOB_NOT_FOUND)."""
        job = self._recent.get(job_id) if self._store.current else None
        if job is None:
            job = await self._store.near(lambda conn: rows.get(conn, job_id))
            if job is None:
                raise not_found(job_id)
            self._keep(job)
        return self.live(job)

    def peek(self, job_id: str) -> Job | None:
        """The job as the store has it, or None. Raises NotAtHand when that would take asking a server: see `some`."""
        job = self._recent.get(job_id) if self._store.current else None
        if job is None and self._store.shared:
            raise NotAtHand(job_id)
        return job or self._store.read_now(lambda conn: rows.get(conn, job_id))

    async def some(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Those of them that there are, as the store has them."""
        held = self._recent if self._store.current else {}
        found = {job_id: held[job_id] for job_id in job_ids if job_id in held}
        missing = [job_id for job_id in job_ids if job_id not in found]
        for start in range(0, len(missing), PAGE):
            part = missing[start : start + PAGE]
            read = await self._store.near(lambda conn, part=part: rows.get_many(conn, part))  # type: ignore[misc]
            for job in read.values():
                self._keep(job)
            found |= read
        return found

    async def page(
        self,
        limit: int,
        *,
        order: str = "create_time",
        descending: bool = True,
        after: tuple[float, str] | None = None,
        where: ColumnElement[bool] | None = None,
        label: tuple[str, str] | None = None,
    ) -> list[Job]:
        """As store.jobs.page, with live progress."""
        found = await self._store.read(
            lambda conn: rows.page(
                conn, limit, order=order, descending=descending, after=after, where=where, label=label
            )
        )
        return [self.live(job) for job in found]

    async def unfinished(self, after: rows.Place | None) -> tuple[list[Job], rows.Place | None]:
        """A page of the jobs that have not ended, as the store has them; see store.jobs.unfinished_page. One that it
        misses, or has as it was, changes after it is read."""
        return await self._store.read(lambda conn: rows.unfinished_page(conn, PAGE, after))

    async def in_state(self, state: JobState) -> list[Job]:
        """All jobs in that state, as the store has them."""
        return await self._store.read(lambda conn: rows.in_states(conn, (state,)))

    async def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return await self._store.read(rows.counts)

    async def cancel(
        self, job_id: str, *, actor: str, etag: str = "", key: RequestKey | None = None, validate_only: bool = False
    ) -> Job:
        """Cancelled when nothing of it runs any more: at once for a job that never ran, else after its runner
        stopped and
        cleaned up. Asking again changes nothing."""

        def ask(tx: Tx) -> Job:
            return _cancelled(tx, load(tx, job_id, etag), actor)

        job, fresh = await self._change(job_id, ask, key, validate_only)
        if fresh:
            self._stop(job, actor)
        return job

    def ask_to_stop(self, tx: Tx, jobs: Sequence[Job], actor: str) -> list[Job]:
        """As `cancel` of each that has not ended, in a transaction of the caller's, who calls `stop_asked` after it."""
        sheaf = Sheaf()
        asked = [job if job.terminal else _cancelled(tx, job, actor, sheaf) for job in jobs]
        sheaf.write(tx)
        return asked

    def stop_asked(self, jobs: Sequence[Job], actor: str) -> None:
        """What `ask_to_stop` returned is in the store, and stands."""
        for job in jobs:
            self._stop(job, actor)

    async def pause(
        self, job_id: str, *, actor: str, etag: str = "", key: RequestKey | None = None, validate_only: bool = False
    ) -> Job:
        """A queued job is held; a running one stops between two pieces of work, its runner stays."""

        def ask(tx: Tx) -> Job:
            job = load(tx, job_id, etag)
            if job.state is JobState.PAUSED:
                return job
            return change(tx, job, JobEvent.PAUSE, actor, f"paused by {actor}", paused_by=actor)

        job, fresh = await self._change(job_id, ask, key, validate_only)
        if fresh:
            self._dispatcher.forget(job_id)
            runner = self._dispatcher.runner(job_id)
            if runner is not None:
                runner.pause()
                self._dispatcher.paused(job)
        return job

    async def resume(
        self, job_id: str, *, actor: str, etag: str = "", key: RequestKey | None = None, validate_only: bool = False
    ) -> Job:
        """Its runner goes on at once, even above the limit of runners; without one the job is queued."""

        def ask(tx: Tx) -> Job:
            job = load(tx, job_id, etag)
            event = JobEvent.RESUME if has_open_attempt(tx, job) else JobEvent.REQUEUE
            return change(tx, job, event, actor, f"resumed by {actor}", next_attempt_time=None, paused_by="")

        job, fresh = await self._change(job_id, ask, key, validate_only)
        if not fresh:
            return job
        runner = self._dispatcher.runner(job_id)
        if job.state is JobState.RUNNING and runner is not None:
            runner.resume()
            self._dispatcher.resumed(job)
        elif job.state is JobState.QUEUED:
            self._dispatcher.ready(job)
        return job

    async def retry(
        self,
        job_id: str,
        *,
        actor: str,
        etag: str = "",
        repin: bool = False,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Job:
        """Queue a failed or cancelled job again, with a fresh count of attempts to come. `repin`: with the
        generations that
        are active now."""

        def ask(tx: Tx) -> Job:
            job = load(tx, job_id, etag)
            return change(
                tx,
                job,
                JobEvent.RETRY,
                actor,
                f"queued again by {actor}",
                pins=() if repin else job.pins,
                retry=replace(job.retry, max_attempts=job.retry.max_attempts + job.attempt_count),
                cancel_requested=False,
                end_time=None,
                error=None,
                progress=None,
            )

        job, fresh = await self._change(job_id, ask, key, validate_only)
        if fresh and job.state is JobState.QUEUED:
            self._dispatcher.ready(job)
        return job

    async def attempts(self, job_id: str, limit: int, after: int) -> list[Attempt]:
        """Attempts of a number above `after`, in order. Raises NotFound."""
        await self.get(job_id)
        found = await self._store.read(lambda conn: rows.attempts_page(conn, job_id, limit, after))
        runner = self._dispatcher.runner(job_id)
        if runner is None:
            return found
        return [
            replace(a, runner_pid=runner.pid, progress=runner.progress)
            if a.number == runner.number and a.state is AttemptState.RUNNING
            else a
            for a in found
        ]

    def attempt_dir(self, uid: str, number: int) -> Path:
        """Where an attempt's log.jsonl lies."""
        return self._dispatcher.rundir(uid).attempt(number)

    def attempt_is_open(self, job: Job, number: int) -> bool:
        """May this attempt's log still grow?"""
        if number != job.attempt_count:
            return False
        if self._dispatcher.active:
            return self._dispatcher.runner(job.id) is not None
        return job.state in {JobState.RUNNING, JobState.PAUSED}  # its runner is the leader's

    def _stop(self, job: Job, actor: str) -> None:
        """`job` is to be cancelled, says the store: carry it out."""
        if job.terminal:
            self._dispatcher.forget(job.id)
            return
        runner = self._dispatcher.runner(job.id)
        if runner is not None:
            self._dispatcher.ask_cancel(runner, f"cancelled by {actor}")
        elif not self._dispatcher.starting(job.id):
            self._dispatcher.end_without_runner(job)

    async def _change(
        self, job_id: str, ask: Callable[[Tx], Job], key: RequestKey | None, validate_only: bool
    ) -> tuple[Job, bool]:
        """The job, and whether that is to be acted on: not what was only rehearsed, nor the answer to an earlier
        request that the job has left behind."""

        def write(tx: Tx) -> tuple[Job, bool]:
            job = once(tx, key, *_CODEC, lambda: ask(tx))
            return job, key is None or stands(tx, job)

        if not validate_only:
            return await self._store.write(write)
        answer: list[Job] = []

        def rehearse(tx: Tx) -> None:
            answer.append(ask(tx))
            raise _RehearsalOver

        try:
            await self._store.write(rehearse)
        except _RehearsalOver:
            return answer[0], False
        raise AssertionError(job_id)

    def live(self, job: Job) -> Job:
        """`job` with the progress that its runner told last; the same object while that is the same."""
        if job.state not in {JobState.RUNNING, JobState.PAUSED}:
            return job
        runner = self._dispatcher.runner(job.id)
        if runner is None or runner.progress is None:
            return job
        held = self._lively.get(job.id)
        if held is None or held[0] is not job or held[1].progress is not runner.progress:
            held = self._lively[job.id] = (job, replace(job, progress=runner.progress))
        return held[1]

    def _tell_progress(self, job_id: str, progress: Progress) -> None:
        job = self._recent.get(job_id)
        if job is None or not self.on_progress:
            return
        live = replace(job, progress=progress)
        for listener in self.on_progress:
            listener(live)

    def _remember(self, events: list[Event]) -> None:
        for event in events:
            job = codec.job_of(event.payload)
            if job is not None:
                self._lively.pop(job.id, None)
                self._keep(job)

    def _keep(self, job: Job) -> None:
        held = self._recent.get(job.id)
        if held is not None and held.revision > job.revision:
            return
        self._recent[job.id] = job
        self._recent.move_to_end(job.id)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)


class _RehearsalOver(Exception):
    """Ends a transaction whose only purpose was to see whether it would work."""


def _cancelled(tx: Tx, job: Job, actor: str, sheaf: Sheaf | None = None) -> Job:
    """Raises FailedPrecondition (JOB_STATE) when it has ended otherwise."""
    if job.state is JobState.CANCELLED or job.cancel_requested:
        return job
    next_state(job.state, JobEvent.CANCEL)
    if job.attempt_count == 0:
        return change(tx, job, JobEvent.CANCEL, actor, "cancelled before it ran", sheaf=sheaf)
    return note(tx, job, "job.cancel_requested", actor, sheaf=sheaf, cancel_requested=True)


def _jobs_to_json(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return [codec.job_to_json(job) for job in jobs]


def _jobs_from_json(data: list[dict[str, Any]]) -> list[Job]:
    return [codec.job_from_json(job) for job in data]

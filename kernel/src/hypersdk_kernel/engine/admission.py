"""Admission: from a job that could run to the one that runs next.

A job that is to run passes the gates (`gates`): one that a gate holds is WAITING, with the reason in its message; one
that passes is QUEUED and stands in the queue; one that can never run ends. Whatever could change a gate's answer has
the job reconsidered: an alarm at the time that the gate named, or the gate itself. What is held is held in memory by
id; the store has the jobs.

Not here: starting (dispatcher), the gates' rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import structlog

from hypersdk_kernel.engine.alarms import Alarms
from hypersdk_kernel.engine.background import Persist
from hypersdk_kernel.engine.gates import Doom, Gate, Hold
from hypersdk_kernel.engine.queue import ReadyQueue
from hypersdk_kernel.engine.transitions import change, load
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobEvent, JobState
from hypersdk_kernel.model.limit import Facts
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import LeaderStore, Tx

log = structlog.get_logger(__name__)

_LOOKED_AT = 200
"""Jobs read at once to be reconsidered."""
_DUE = {JobState.QUEUED, JobState.WAITING}


class Admission:
    """See the module's docstring. `pump` is called when there may be something to start."""

    def __init__(
        self,
        store: LeaderStore,
        clock: Clock,
        facts: Callable[[Job], Facts],
        persist: Persist,
        pump: Callable[[], None],
    ) -> None:
        self.gates: list[Gate] = []
        self.queue = ReadyQueue()
        self.alarms = Alarms(clock, lambda job_id: self.reconsider([job_id]))
        self._store = store
        self._clock = clock
        self._facts = facts
        self._persist = persist
        self._pump = pump
        self._held: dict[str, Hold] = {}
        self._opened = False
        self._unseen: dict[str, object] = {}
        """Who is to be reconsidered, and by which asking; not any more when it is taken or forgotten meanwhile."""
        self._looking = False

    def judge(self, job: Job) -> Hold | Doom | None:
        """The first gate that keeps `job` back, or None. A gate that is not reached forgets what it knew."""
        now = self._clock.now()
        for gate in self.gates:
            verdict = gate.judge(job, now)
            if verdict is not None:
                return verdict
        return None

    def take(self, job: Job) -> None:
        """`job`, which is in the store, is QUEUED or WAITING: queue it, hold it, or end it."""
        self._unseen.pop(job.id, None)
        verdict = self.judge(job)
        if isinstance(verdict, Doom):
            self.forget(job.id)
            self._persist(job.name, lambda: self._end(job.id, verdict))
        elif isinstance(verdict, Hold):
            self._hold(job, verdict)
        else:
            self._unhold(job.id)
            if job.state is JobState.WAITING:
                self._persist(job.name, lambda: self._release(job.id))
            else:
                self.queue.push(job, self._facts(job), self._clock.now())
                if job.deadline is not None:
                    self.alarms.set(job.id, job.deadline)

    def forget(self, job_id: str) -> None:
        """The job neither waits nor is queued any more."""
        self._unseen.pop(job_id, None)
        self.queue.remove(job_id)
        self._unhold(job_id)
        self.alarms.clear(job_id)
        for gate in self.gates:
            gate.forget(job_id)

    def reconsider(self, job_ids: Iterable[str]) -> None:
        """Look at the gates of these jobs again, soon. Nothing where nothing is dispatched."""
        if not self._opened:
            return
        asking = object()
        self._unseen.update((job_id, asking) for job_id in job_ids)
        if self._unseen and not self._looking:
            self._looking = True
            self._persist("held jobs", self._look)

    def reconsider_all(self) -> None:
        """Something that may concern every held job has changed."""
        self.reconsider(list(self._held))

    def hold_of(self, job_id: str) -> Hold | None:
        """Why the job is held, if it is."""
        return self._held.get(job_id)

    def verdicts(self, job: Job) -> list[Hold | Doom]:
        """What every gate says of `job` now, for people: `judge` stops at the first."""
        now = self._clock.now()
        found = (gate.judge(job, now) for gate in self.gates)
        return [verdict for verdict in found if verdict is not None]

    @property
    def held(self) -> Sequence[str]:
        return list(self._held)

    def open(self) -> None:
        self._opened = True
        self.alarms.open()

    def close(self) -> None:
        """Forget every job."""
        self._opened = False
        self._unseen.clear()
        self.alarms.close()
        for job_id in self._held:
            for gate in self.gates:
                gate.forget(job_id)
        self._held.clear()
        self.queue.clear()

    async def _look(self) -> None:
        self._looking = True
        try:
            while self._unseen:
                asked = dict(islice(self._unseen.items(), _LOOKED_AT))
                found = await self._store.near(lambda conn, ids=list(asked): rows.get_many(conn, ids))  # type: ignore[misc]
                for job_id, asking in asked.items():
                    if self._unseen.get(job_id) is asking:
                        del self._unseen[job_id]
                        self._looked(job_id, found.get(job_id))
                self._pump()
                await asyncio.sleep(0)  # a database at hand answers without letting anybody else go on
        finally:
            self._looking = False

    def _looked(self, job_id: str, job: Job | None) -> None:
        if job is None or job.state not in _DUE or job.cancel_requested:
            self._unhold(job_id)
        else:
            self.take(job)

    def _hold(self, job: Job, hold: Hold) -> None:
        before = self._held.get(job.id)
        self.queue.remove(job.id)
        self._held[job.id] = hold
        looks = [when for when in (hold.until, job.deadline) if when is not None]
        if looks:
            self.alarms.set(job.id, min(looks))
        else:
            self.alarms.clear(job.id)
        told = job.state is JobState.WAITING and (before is None or before.reason == hold.reason)
        if not told or job.next_attempt_time != hold.until or not job.state_message:
            self._persist(job.name, lambda: self._write_hold(job.id, hold))

    def _unhold(self, job_id: str) -> None:
        if self._held.pop(job_id, None) is not None:
            self.alarms.clear(job_id)

    async def _write_hold(self, job_id: str, hold: Hold) -> None:
        def write(tx: Tx) -> Job | None:
            job = load(tx, job_id)
            if job.state not in _DUE or self._held.get(job_id) is not hold:
                return None  # overtaken
            return change(tx, job, JobEvent.HOLD, "kernel", hold.message, next_attempt_time=hold.until)

        held = await self._store.write(write)
        if held is not None:
            log.info("job_held", job=held.name, reason=hold.reason, until=hold.until)

    async def _release(self, job_id: str) -> None:
        def write(tx: Tx) -> Job | None:
            job = load(tx, job_id)
            if job.state is not JobState.WAITING:
                return None
            return change(tx, job, JobEvent.RELEASE, "kernel", next_attempt_time=None)

        job = await self._store.write(write)
        if job is not None:
            self.take(job)
            self._pump()

    async def _end(self, job_id: str, doom: Doom) -> None:
        def write(tx: Tx) -> Job | None:
            job = load(tx, job_id)
            if job.state not in _DUE:
                return None
            return change(tx, job, doom.event, "kernel", doom.error.message, error=doom.error.to_json())

        await self._store.write(write)

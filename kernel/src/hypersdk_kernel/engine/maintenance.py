"""Limits, reordering and maintenance: what operators do with the queue.

The limits and the mode are in the store, and followed from its event log, so that every kernel on one store agrees.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from hypersdk.errors import FailedPrecondition, Unavailable

from hypersdk_kernel.engine.alarms import Alarms
from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.documents import Documents
from hypersdk_kernel.engine.following import Follower
from hypersdk_kernel.engine.transitions import load, note, stands
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.limit import Limit
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import documents as rows
from hypersdk_kernel.store.documents import Document
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once

_SETTING = "setting"
_QUEUE = "queue"
_EDGES = "edges"
_WAITING = frozenset({JobState.QUEUED, JobState.WAITING, JobState.RETRYING, JobState.PAUSED})


class Mode(enum.StrEnum):
    """OPEN: as ever. DRAINING: nothing starts. CLOSED: nothing starts and nothing is taken in."""

    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class QueueControl:
    """Its life: `load`, then it follows `notice`; `close`, and `open` again."""

    def __init__(
        self, store: Store, clock: Clock, limits: Documents[Limit], windows: WindowBook, dispatcher: Dispatcher
    ) -> None:
        self.mode = Mode.OPEN
        self.mode_reason = ""
        self.changed: list[Callable[[], None]] = []
        self._store = store
        self._clock = clock
        self._limits = limits
        self._windows = windows
        self._dispatcher = dispatcher
        self._edges = Alarms(clock, lambda _: self._apply())
        self._known: list[Limit] = []
        self._follower = Follower(self.load, "limit.", "queue.")
        self.notice = self._follower.notice
        self.settled = self._follower.settled
        dispatcher.queue.limits.holds = self._holds
        windows.changed.append(self._apply)

    async def load(self) -> None:
        self._known = await self._limits.every()
        found = await self._store.read(lambda conn: rows.get(conn, _SETTING, _QUEUE))
        body: dict[str, Any] = {} if found is None else found.body
        self.mode, self.mode_reason = Mode(body.get("mode", Mode.OPEN)), str(body.get("reason", ""))
        self._apply()

    def check_open(self) -> None:
        """Raises Unavailable (MAINTENANCE) when nothing is taken in."""
        if self.mode is Mode.CLOSED:
            why = f": {self.mode_reason}" if self.mode_reason else ""
            raise Unavailable(
                f"the daemon is in maintenance and takes no jobs{why}; try again later",
                reason="MAINTENANCE",
                retry_after_s=60.0,
            )

    async def set_mode(
        self,
        mode: Mode,
        reason: str,
        *,
        actor: str,
        key: RequestKey | None = None,
        answer: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """In force on every kernel of this store, also after a restart. `answer`: what is returned, to a repetition
        with the same `key` too, JSON-able."""

        def write(tx: Tx) -> dict[str, Any]:
            document = Document(_SETTING, _QUEUE, tx.now, tx.new_revision(), {"mode": mode.value, "reason": reason})
            rows.remove(tx.conn, _SETTING, _QUEUE)
            rows.add(tx.conn, document)
            tx.emit("queue.mode_changed", "queue", actor, document.body, revision=document.revision)
            return answer or {}

        told = await self._store.write(lambda tx: once(tx, key, _as_it_is, _as_it_is, lambda: write(tx)))
        await self.load()
        return told

    async def move(
        self,
        job_id: str,
        *,
        front: bool,
        actor: str,
        etag: str = "",
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Job:
        """Put a job before all others, whatever their priority, or back to where it came. Raises NotFound,
        FailedPrecondition (JOB_STATE) when it does not wait."""

        def ask(tx: Tx) -> Job:
            job = load(tx, job_id, etag)
            if job.state not in _WAITING:
                raise FailedPrecondition(
                    f"{job.name} is {job.state.value}; only what waits can be moved", reason="JOB_STATE"
                )
            rank = int(tx.now * 1000) if front else 0  # who was moved last is first
            if rank == job.rank or validate_only:
                return job
            return note(tx, job, "job.moved", actor, rank=rank)

        def write(tx: Tx) -> tuple[Job, bool]:
            if validate_only:
                return ask(tx), False
            job = once(tx, key, codec.job_encoded, codec.job_from_json, lambda: ask(tx))
            return job, stands(tx, job)

        job, fresh = await self._store.write(write)
        if fresh and job.state is JobState.QUEUED:
            self._dispatcher.ready(job)
        return job

    def open(self) -> None:
        self._edges.open()

    def close(self) -> None:
        self._edges.close()

    def _holds(self, limit: Limit) -> bool:
        window = self._windows.get(limit.window) if limit.window else None
        return not limit.window or (window is not None and self._windows.phase_of(window, self._clock.now()).open)

    def _apply(self) -> None:
        self._dispatcher.queue.relimit(self._known)
        self._dispatcher.maintenance = self.mode is not Mode.OPEN
        now = self._clock.now()
        edges = []
        for limit in self._known:
            window = self._windows.get(limit.window) if limit.window else None
            until = self._windows.phase_of(window, now).until if window is not None else None
            if until is not None:
                edges.append(until)
        if edges:
            self._edges.set(_EDGES, min(edges))
        for listener in self.changed:
            listener()
        self._dispatcher.pump()


def _as_it_is(answer: dict[str, Any]) -> dict[str, Any]:
    return answer

"""Keeps the audit trail from growing without bound: what is more than is kept, or older, goes into an archive.

Only the leader does, and a batch at a time: the entries are proved to be as they were written, written to the archive
and synced, and then dropped by one transaction that also moves the anchor. One that is not as it was written stays, and
so do all after it: it is for `audit verify` to name, not for an archive to bury.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from hypersdk.auditchain import AuditEntry, Walk
from hypersdk.errors import HyperError
from sqlalchemy import Connection

from hypersdk_kernel.engine.background import Background
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.store import audit as rows
from hypersdk_kernel.store.auditarchive import AuditArchive
from hypersdk_kernel.store.engine import LeaderStore

LOOK_S = 60.0
BATCH = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many of the newest entries, and for how long, seconds; 0: no limit. What is beyond one of them goes."""

    rows: int
    for_s: float


class AuditKeeping:
    """A Part of leadership."""

    def __init__(self, store: LeaderStore, clock: Clock, archive: AuditArchive, kept: Kept) -> None:
        self._store = store
        self._clock = clock
        self._archive = archive
        self._kept = kept
        self._background = Background()

    async def start(self) -> None:
        self._background.spawn(self._run())

    async def stop(self) -> None:
        await self._background.stop()

    async def sweep(self) -> int:
        """Look once; how many entries were archived."""
        total = 0
        while moved := await self._batch():
            total += moved
        return total

    async def _run(self) -> None:
        while self._kept.rows or self._kept.for_s:
            try:
                count = await self.sweep()
                if count:
                    log.info("audit_archived", entries=count)
            except HyperError as exc:
                log.warning("audit_not_archived", reason=exc.reason, message=exc.message)
            await asyncio.sleep(LOOK_S)

    async def _batch(self) -> int:
        (after, digest), old = await self._store.read(self._old)
        walk = Walk()
        walk.begin_after(after, digest)
        sound = [entry for entry in old if not walk.problem and walk.step(entry)]
        if walk.problem:
            log.error("audit_not_archived", entry=walk.bad_seq, problem=walk.problem)
        if not sound:
            return 0
        await asyncio.to_thread(self._archive.append, sound)
        dropped = await self._store.write(lambda tx: rows.drop(tx.conn, after, sound[-1]))
        return len(sound) if dropped else 0

    def _old(self, conn: Connection) -> tuple[tuple[int, str], list[AuditEntry]]:
        """The anchor, and those behind it that go next."""
        anchor = rows.anchor(conn)
        most = rows.head(conn)[0] - self._kept.rows if self._kept.rows else 0
        horizon = self._clock.now() - self._kept.for_s if self._kept.for_s else float("-inf")
        old: list[AuditEntry] = []
        for entry in rows.page(conn, anchor[0], BATCH):
            if entry.seq > most and entry.time >= horizon:
                break
            old.append(entry)
        return anchor, old

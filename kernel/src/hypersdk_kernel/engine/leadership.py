"""Leadership: what only one kernel may do is started when this one leads, and stopped when it does not.

On SQLite this kernel always leads. On PostgreSQL store.leader decides, and every write of a leader's part is fenced by
the epoch (`Store.write(leading=True)`), so a part that is still stopping, or that slept through its replacement,
changes nothing.

Its life: `add` parts, `start`, `stop`. Parts start in the order of adding and stop in reverse; each is stopped before
it is started again.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.leader import LeaderLock
from hypersdk_kernel.store.postgresql import Postgresql

log = structlog.get_logger(__name__)

_RETRY_S = 1.0


class Part(Protocol):
    """What only a leader runs. Both may be called again and again, in turns."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Leadership:
    """See the module's docstring. Lives on the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: list[Part] = []
        self._running: list[Part] = []
        self._wanted: int | None = None
        self._turn = asyncio.Event()
        self._lock: LeaderLock | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        return not self._store.shared or self._store.epoch is not None

    def add(self, part: Part) -> None:
        self._parts.append(part)

    async def start(self) -> None:
        """Without other kernels: lead, now. Else try to, from now on, in the background."""
        backend = self._store.backend
        if not isinstance(backend, Postgresql):
            for part in self._parts:
                await part.start()
                self._running.append(part)
            return
        loop = asyncio.get_running_loop()

        def tell(epoch: int | None) -> None:
            loop.call_soon_threadsafe(self._want, epoch)

        lock = self._lock = LeaderLock(backend, tell)
        self._task = asyncio.create_task(self._follow())
        lock.start()

    async def stop(self) -> None:
        """Stop the parts, then give leadership back, so that the next leader starts after our last write."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._stop_parts()
        if self._lock is not None:
            await asyncio.to_thread(self._lock.stop)

    def _want(self, epoch: int | None) -> None:
        self._wanted = epoch
        self._store.epoch = None if epoch is None else self._store.epoch
        self._turn.set()

    async def _follow(self) -> None:
        while True:
            await self._turn.wait()
            self._turn.clear()
            wanted = self._wanted
            await self._stop_parts()
            if wanted is None:
                log.info("leadership_lost")
                continue
            self._store.epoch = wanted
            log.info("leadership_gained", epoch=wanted)
            await self._start_parts(wanted)

    async def _start_parts(self, epoch: int) -> None:
        """Until all run or we lead no more; the database may not answer at first."""
        for part in self._parts:
            while self._wanted == epoch:
                try:
                    self._running.append(part)
                    await part.start()
                    break
                except Exception:
                    log.exception("leader_part_failed", part=type(part).__name__)
                    await part.stop()
                    self._running.pop()
                    await asyncio.sleep(_RETRY_S)

    async def _stop_parts(self) -> None:
        while self._running:
            part = self._running.pop()
            try:
                await part.stop()
            except Exception:
                log.exception("leader_part_failed", part=type(part).__name__)

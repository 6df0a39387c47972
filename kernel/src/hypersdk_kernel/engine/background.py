"""Work that nobody waits for: started on the loop, repeated until the store takes it, ended with the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from hypersdk.errors import HyperError

log = structlog.get_logger(__name__)

Persist = Callable[[str, Callable[[], Coroutine[Any, Any, None]]], None]
"""Run an action in the background, repeated until the store takes it: (name for the log, action)."""

_STORE_RETRY_S = 2.0


class Background:
    """Its life: `spawn` and `persist`, then `stop`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def persist(self, name: str, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`until_stored` in the background."""
        self.spawn(self.until_stored(name, action))

    async def until_stored(self, name: str, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Repeat `action` until the store takes it: a full disk delays the news of a job's end, it does not lose
        it."""
        while True:
            try:
                await action()
                return
            except HyperError as exc:
                if exc.reason == "JOB_STATE":
                    log.info("transition_overtaken", job=name, message=exc.message)
                    return
                if exc.reason in {"STORE_CLOSED", "NOT_LEADER"}:
                    return
                log.warning("transition_delayed", job=name, reason=exc.reason, message=exc.message)
                await asyncio.sleep(_STORE_RETRY_S)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background_task_failed", exc_info=task.exception())

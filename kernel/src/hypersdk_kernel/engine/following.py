"""Following: what is kept in memory of the store's policies, read again whenever the event log tells of a change.

Not here: the policies themselves (windows, limits, the queue's mode).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.model.event import Event

log = structlog.get_logger(__name__)


class Follower:
    """Calls `load` after events whose types begin with one of `prefixes`; however many come, one load at a time."""

    def __init__(self, load: Callable[[], Awaitable[None]], *prefixes: str) -> None:
        self._load = load
        self._prefixes = prefixes
        self._loading: asyncio.Task[None] | None = None
        self._again = False

    def notice(self, events: list[Event]) -> None:
        """Store.on_commit."""
        if not any(event.type.startswith(self._prefixes) for event in events):
            return
        if self._loading is not None and not self._loading.done():
            self._again = True
            return
        self._loading = asyncio.get_running_loop().create_task(self._reload())

    async def settled(self) -> None:
        """Return when the changes noticed so far are in memory (or could not be read, which the log tells)."""
        if self._loading is not None and not self._loading.done():
            await asyncio.shield(self._loading)

    async def _reload(self) -> None:
        while True:
            self._again = False
            try:
                await self._load()
            except HyperError as exc:
                log.warning("policies_not_loaded", of=self._prefixes, reason=exc.reason, message=exc.message)
            if not self._again:
                return

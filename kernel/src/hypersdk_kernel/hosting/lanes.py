"""Lanes: how many calls a component takes at once, as its manifest declares (docs/host-protocol.md, `concurrency`).

A lane is left when the host is done with the call, not when the caller is: a plugin that declares `serial` never runs
two calls at once, even if the first caller gave up.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hypersdk.errors import DeadlineExceeded

from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent

Key = tuple[str, str]


def lane_of(component: ActiveComponent, connection: ResolvedConnection | None) -> Key | None:
    """The lane of a call; None: it need not wait for others."""
    match component.manifest.concurrency:
        case "parallel":
            return None
        case "per_handle":
            return component.name, connection.name if connection is not None else ""
        case "serial":
            return component.name, ""


class Lanes:
    """The lanes of one host process. First come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[Key, deque[asyncio.Future[None]]] = {}

    async def enter(self, key: Key, timeout_s: float) -> None:
        """Wait for the turn. Raises DeadlineExceeded."""
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(timeout_s):  # not wait_for, which in 3.11 may swallow a cancellation
                await turn
        except BaseException as exc:
            if not turn.cancelled():
                self.leave(key)  # it was our turn just now: the next one's
            elif turn in queue:
                queue.remove(turn)
            if isinstance(exc, TimeoutError):
                text = f"{key[0]} was busy with other calls for {timeout_s:.3g} s; it takes one at a time"
                raise DeadlineExceeded(text) from None
            raise

    def leave(self, key: Key) -> None:
        """The host is done with the call."""
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():  # else: its caller gave up in this very moment
                turn.set_result(None)
                return
        del self._waiting[key]

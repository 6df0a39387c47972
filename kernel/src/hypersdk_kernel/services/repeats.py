"""Request ids of calls that a plugin carries out, which no transaction of ours can hold.

The answer is remembered after the plugin has given it. Between the two lies what cannot be closed from here: a kernel
that dies there asks the plugin again when the request is repeated.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.services.call import Call
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.requests import once, recall


class Repeats:
    """Answers by request id."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def answer(
        self, request: Any, call: Call, answer_class: type[Message], ask: Callable[[], Awaitable[Message]]
    ) -> Message:
        """What `ask` answers, or has answered to this request before. Raises what it raises, which is not remembered;
        AlreadyExists (REQUEST_ID_REUSED)."""
        key = call.key
        if key is None or request.validate_only:
            return await ask()
        known = await self._store.read(lambda conn: recall(conn, key, self._clock.now()))
        if known is not None:
            return _parsed(known, answer_class)
        answer = await ask()
        return await self._store.write(
            lambda tx: once(tx, key, MessageToDict, lambda data: _parsed(data, answer_class), lambda: answer)
        )


def _parsed(data: dict[str, Any], message_class: type[Message]) -> Message:
    return ParseDict(data, message_class())

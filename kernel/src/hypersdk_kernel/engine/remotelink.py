"""RemoteLink: JSON-RPC in both directions over a TLS stream, with an agent on another machine (docs/host-protocol.md).

Its requests are answered one after the other, in order, and the next is read when the last is answered: an agent that
sends faster than records can be synced waits in its socket, not in our memory.

Not here: who it is and what it may (remotes), what the methods do (remoterunner).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from hypersdk.errors import DeadlineExceeded, HyperError, Internal, from_exception, from_json
from hypersdk.wire.frames import MAX_FRAME_BYTES, Decoder, encode
from hypersdk.wire.rpc import error_to_rpc

from hypersdk_kernel.hosting.peer import PeerGone

log = structlog.get_logger(__name__)

UNKNOWN_FRAME_BYTES = 64 << 10
"""The longest frame of somebody who has not shown a certificate."""
_READ_BYTES = 256 << 10
_ABORT_S = 5.0

Handler = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""(method, params) → result; raises errors of the tree."""


class RemoteLink:
    """Its life: made over a connected stream; `run` until it ends. `request`, `close` from anywhere on the loop."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler, *, trusted: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._decoder = Decoder(MAX_FRAME_BYTES if trusted else UNKNOWN_FRAME_BYTES)
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._next_id = 1
        self._open = True
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Read and answer until either side ends it."""
        reading = asyncio.get_running_loop().create_task(self._responses_and_requests())
        try:
            await reading
        except (OSError, HyperError, asyncio.IncompleteReadError) as exc:
            log.debug("remote_link_broken", error=str(exc))
        finally:
            self.close()

    async def _responses_and_requests(self) -> None:
        while data := await self._reader.read(_READ_BYTES):
            for message in self._decoder.feed(data):
                if message.get("method") is None:
                    self._resolve(message)
                else:
                    await self._answer(message)
                if not self._open:
                    return

    async def _answer(self, message: dict[str, Any]) -> None:
        request_id, params = message.get("id"), message.get("params")
        try:
            result = await self._handler(str(message["method"]), params if isinstance(params, dict) else {})
        except Exception as exc:
            error = from_exception(exc, doing="an agent's request")
            if error is not exc:
                log.exception("remote_request_failed", method=str(message["method"])[:100])
            reply: dict[str, Any] = {"error": error_to_rpc(error)}
        else:
            reply = {"result": result}
        if isinstance(request_id, int) and self._open:
            self._writer.write(encode({"jsonrpc": "2.0", "id": request_id, **reply}))
            await self._writer.drain()

    async def request(self, method: str, params: dict[str, Any], timeout_s: float) -> Any:
        """The agent's answer. Raises what it answered, PeerGone, DeadlineExceeded."""
        if not self._open:
            raise PeerGone(f"the connection was closed before {method} could be sent", sent=False)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request_id, self._next_id = self._next_id, self._next_id + 1
        self._pending[request_id] = answer
        try:
            self._writer.write(encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}))
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(f"no answer to {method} within {timeout_s:.3g} s") from None
        finally:
            self._pending.pop(request_id, None)

    def _resolve(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        answer = self._pending.pop(request_id, None) if isinstance(request_id, int) else None
        if answer is None or answer.done():
            return
        error = message.get("error")
        if error is None:
            answer.set_result(message.get("result"))
        elif isinstance(error, dict) and isinstance(error.get("data"), dict):
            answer.set_exception(from_json(error["data"]))
        else:
            answer.set_exception(Internal("an agent refused a command", reason="PEER_ERROR"))

    def close(self) -> None:
        """End it; what was written already is sent if the other side takes it soon. Idempotent."""
        if not self._open:
            return
        self._open = False
        transport = self._writer.transport
        self._writer.close()
        asyncio.get_running_loop().call_later(_ABORT_S, transport.abort)
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(PeerGone("the connection closed before the answer came", sent=True))
        self._pending.clear()
        if not self.closed.done():
            self.closed.set_result(None)

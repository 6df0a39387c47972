"""Peer: JSON-RPC 2.0 with a child over a connected socket, on the loop (docs/host-protocol.md).

Hand-written over the loop's readers and writers, because a routed call has a budget of 100 µs: no task per
call, no streams, one future and one timer per request. A frame that is not one ends the connection, since
nothing after it can be trusted.

Not here: who the peer is, and whether a request may be repeated (host, supervisor).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from hypersdk.errors import (
    DeadlineExceeded,
    HyperError,
    Internal,
    ResourceExhausted,
    Unavailable,
    Unsupported,
    from_json,
)
from hypersdk.wire.frames import MAX_FRAME_BYTES, Decoder, encode

from hypersdk_kernel.hosting import frametrace

RECEIVE_BYTES = 256 << 10
"""Taken from the socket in one turn of the loop, so that one talkative child cannot starve the others."""

MAX_BACKLOG_BYTES = 4 * MAX_FRAME_BYTES
"""Unsent bytes kept for a peer that does not read; a request above it is refused."""

METHOD_NOT_FOUND = -32601
APPLICATION_ERROR = -32000

log = structlog.get_logger(__name__)


class PeerGone(Unavailable):
    """The connection closed. `sent`: False when the request surely never reached the peer, so that it may be
    repeated."""

    default_reason = "PEER_GONE"

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class Peer:
    """One end of a connection. Its life: connected; `close`, the peer's closing or a broken frame; then
    `closed` is done, every open request has failed with PeerGone, and new ones do at once.

    on_notification  called on the loop with (method, params); must be quick
    failure          why the connection was ended from this side, if it was
    """

    def __init__(
        self,
        sock: socket.socket,
        on_notification: Callable[[str, dict[str, Any]], None],
        limit: int = MAX_FRAME_BYTES,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._trace = frametrace.of_connection(about or {})
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._on_notification = on_notification
        self._decoder = Decoder(limit)
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._abandoned: dict[int, Callable[[], None]] = {}
        self._next_id = 1
        self._backlog = bytearray()
        self._open = True
        self.failure: HyperError | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._fd, self._on_readable)

    async def request(
        self, method: str, params: dict[str, Any], timeout_s: float, on_ended: Callable[[], None] | None = None
    ) -> Any:
        """The peer's answer. Raises what the peer answered, as the error tree has it; PeerGone when the connection
        closes; DeadlineExceeded after `timeout_s` seconds; ResourceExhausted (PEER_BACKLOGGED) when it does not read.
        When the caller is cancelled or the time is over, the peer is told by `cancel`.

        on_ended  called exactly once when the peer is done with the request, which may be long after the caller gave
                  up
        """
        try:
            if not self._open:
                raise PeerGone(f"the connection was closed before {method} could be sent", sent=False)
            request_id = self._next_id
            self._next_id += 1
            message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
            self._send(message, encode(message))
        except BaseException:
            if on_ended is not None:
                on_ended()
            raise
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._pending[request_id] = answer
        timer = self._loop.call_later(timeout_s, self._expire, answer, method, timeout_s)
        try:
            return await answer
        finally:
            timer.cancel()
            given_up = self._pending.pop(request_id, None) is not None
            if given_up:
                if on_ended is not None:
                    self._abandoned[request_id] = on_ended
                self.notify("cancel", {"id": request_id})
            elif on_ended is not None:
                on_ended()

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the peer; no answer. Lost when the connection is closed or the peer has long stopped
        reading."""
        if not self._open:
            return
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        frame = encode(message)
        try:
            self._send(message, frame)
        except (PeerGone, ResourceExhausted) as exc:
            log.debug("notification_dropped", method=method, reason=exc.reason)

    def close(self) -> None:
        """End the connection. Idempotent."""
        if not self._open:  # not `closed`: whoever awaits that future may cancel it
            return
        self._open = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._sock.close()
        self._backlog.clear()
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            if not answer.done():
                answer.set_exception(PeerGone("the connection closed before the answer came", sent=True))
        abandoned, self._abandoned = self._abandoned, {}
        for on_ended in abandoned.values():
            on_ended()
        if not self.closed.done():
            self.closed.set_result(None)

    @staticmethod
    def _expire(answer: asyncio.Future[Any], method: str, timeout_s: float) -> None:
        if not answer.done():
            answer.set_exception(DeadlineExceeded(f"no answer to {method} within {timeout_s:.3g} s"))

    # Writing: at once if the socket takes it, which it nearly always does; the rest when it is writable.

    def _send(self, message: dict[str, Any], frame: bytes) -> None:
        if self._trace is not None:
            self._trace.sent(message, len(frame))
        self._put(frame)

    def _put(self, frame: bytes) -> None:
        if self._backlog:
            if len(self._backlog) + len(frame) > MAX_BACKLOG_BYTES:
                raise ResourceExhausted(
                    f"{len(self._backlog)} bytes wait for a peer that does not read them; try again later",
                    reason="PEER_BACKLOGGED",
                )
            self._backlog += frame
            return
        try:
            sent = self._sock.send(frame)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as exc:
            self.close()
            raise PeerGone(f"the connection is broken: {exc.strerror}", sent=False) from exc
        if sent < len(frame):
            self._backlog += memoryview(frame)[sent:]
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._backlog)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        del self._backlog[:sent]
        if not self._backlog:
            self._loop.remove_writer(self._fd)

    # Reading.

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for message in self._decoder.feed(data):
                if self._trace is not None:
                    self._trace.received(message, self._decoder.frame_bytes)
                self._dispatch(message)
                if not self._open:
                    return
        except HyperError as exc:
            self.failure = exc
            self.close()

    def _dispatch(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        request_id = message.get("id")
        if method is None:
            if not isinstance(request_id, int):
                return
            answer = self._pending.pop(request_id, None)
            if answer is not None and not answer.done():
                _resolve(answer, message)
            elif (on_ended := self._abandoned.pop(request_id, None)) is not None:
                on_ended()
        elif request_id is not None:
            error = {"code": METHOD_NOT_FOUND, "message": "the kernel answers no requests"}
            refusal = {"jsonrpc": "2.0", "id": request_id, "error": error}
            self._send(refusal, encode(refusal))
        else:
            params = message.get("params")
            try:
                self._on_notification(str(method), params if isinstance(params, dict) else {})
            except Exception:
                log.exception("notification_failed", method=str(method)[:100])


def _resolve(answer: asyncio.Future[Any], message: dict[str, Any]) -> None:
    if "result" in message:
        answer.set_result(message["result"])
        return
    error = message.get("error")
    if not isinstance(error, dict):
        exc = Internal("an answer with neither result nor error", reason="PEER_ANSWER_INVALID")
        answer.set_exception(exc)
        return
    data, code, text = error.get("data"), error.get("code"), str(error.get("message") or "no message given")
    if code == APPLICATION_ERROR and isinstance(data, dict):
        answer.set_exception(from_json(data))
    elif code == METHOD_NOT_FOUND:
        answer.set_exception(Unsupported(text, reason="METHOD_UNKNOWN"))
    else:
        answer.set_exception(Internal(f"the peer refused the message ({code}): {text}", reason="PEER_ERROR"))

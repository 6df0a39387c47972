"""A JSON-RPC 2.0 peer over one connected stream socket: synchronous, threaded, symmetric.

Its life: made with a table of methods; `run()` reads until the connection ends (in a thread of the caller's
choice); meanwhile any thread may `request`, `notify` or answer. A method says where it runs: on the reader
itself (`inline`, for what answers at once) or wherever its `submit` takes it (a pool, the main thread), so
that slow methods never block the reader.

Not here: what the methods mean, reconnecting, asyncio (the kernel has its own reader over the same frames).
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hypersdk.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    HyperError,
    Internal,
    ResourceExhausted,
    Unavailable,
    Unsupported,
    from_exception,
    from_json,
)
from hypersdk.wire.frames import Decoder, encode

METHOD_NOT_FOUND = -32601
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
APPLICATION_ERROR = -32000

MAX_IN_FLIGHT = 1024
"""Requests of the other side that are not answered yet. The kernel's own limits are far below."""
MAX_ERROR_TEXT = 8192
"""Characters of an error's message or of one metadata value that are sent; the rest is cut off."""
_RECEIVE_BYTES = 1 << 16

Submit = Callable[[Callable[[], None]], None]


def inline(job: Callable[[], None]) -> None:
    """Run on the reader thread."""
    job()


class Request:
    """What the other side asked. `cancelled` turns true when it no longer waits; `age_s` counts from arrival.

    A handler returns the result. One that must go on after its answer is on the wire calls `answer` itself.
    """

    __slots__ = ("_peer", "_received", "answered", "begun", "cancelled", "id", "method", "params")

    def __init__(self, peer: Peer, request_id: int | None, method: str, params: dict[str, Any]) -> None:
        self._peer = peer
        self._received = time.monotonic()
        self.id = request_id
        self.method = method
        self.params = params
        self.begun = False
        self.cancelled = False
        self.answered = False

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._received

    def answer(self, result: Any) -> None:
        """Send the result now. Later answers to this request are dropped."""
        self._peer.answer(self, result)


Handler = Callable[[Request], Any]


class Method(NamedTuple):
    """A handler, and where it runs."""

    handler: Handler
    submit: Submit = inline


class _Pending:
    """A request of ours that waits for its response."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self.error: HyperError | None = None


class Peer:
    """One end of a connection. Thread-safe. After the connection ended every `request` raises Unavailable
    (CONNECTION_CLOSED), and `notify` and answers go nowhere."""

    def __init__(self, sock: socket.socket, methods: Mapping[str, Method]) -> None:
        self._socket = sock
        self._methods = methods
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()
        self._pending: dict[int, _Pending] = {}
        self._in_flight: dict[int, Request] = {}
        self._next_id = 1
        self.closed = threading.Event()

    # -- reading ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Read and dispatch until the connection ends, by either side or by a frame that is not one."""
        decoder = Decoder()
        try:
            while data := self._socket.recv(_RECEIVE_BYTES):
                for message in decoder.feed(data):
                    self._receive(message)
        except (OSError, DataLoss):
            pass  # a reset, a close() of ours or garbage all end the connection, which is what `closed` tells
        finally:
            self.close()

    def _receive(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        method = message.get("method")
        if method is None:
            self._receive_response(request_id, message)
            return
        params = message.get("params", {})
        if not isinstance(method, str) or not isinstance(params, dict):
            self._refuse(request_id, INVALID_PARAMS, "method must be a string and params an object")
            return
        entry = self._methods.get(method)
        if request_id is None:
            if entry is not None:
                notification = Request(self, None, method, params)
                entry.submit(lambda: self._execute(entry.handler, notification))
            return
        if not isinstance(request_id, int) or isinstance(request_id, bool) or request_id in self._in_flight:
            self._refuse(None, INVALID_REQUEST, f"id {request_id!r} is not an integer or still in flight")
        elif entry is None:
            self._refuse(request_id, METHOD_NOT_FOUND, f"no method {method[:100]!r}")
        else:
            self._accept(entry, Request(self, request_id, method, params))

    def _accept(self, entry: Method, request: Request) -> None:
        assert request.id is not None
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            text = f"{MAX_IN_FLIGHT} requests are in flight already; wait for answers"
            self._answer_error(request, ResourceExhausted(text, reason="TOO_MANY_REQUESTS"))
            return
        with self._changed:
            self._in_flight[request.id] = request
        entry.submit(lambda: self._execute(entry.handler, request))

    def _execute(self, handler: Handler, request: Request) -> None:
        with self._changed:
            if request.cancelled:
                return
            request.begun = True
        try:
            result = handler(request)
        except BaseException as exc:  # noqa: BLE001 - whatever it raises is the answer
            self._answer_error(request, from_exception(exc, doing=request.method))
        else:
            self.answer(request, result)

    def _receive_response(self, request_id: Any, message: dict[str, Any]) -> None:
        with self._changed:
            pending = self._pending.pop(request_id, None) if isinstance(request_id, int) else None
        if pending is None:
            return
        if "error" in message:
            pending.error = error_from_rpc(message["error"])
        else:
            pending.result = message.get("result")
        pending.done.set()

    # -- answering -------------------------------------------------------------------------------------------

    def answer(self, request: Request, result: Any) -> None:
        """Answer with a result; one that is no JSON or too large is answered by the error that says so."""
        if not self._settle(request):
            return
        try:
            frame = encode({"jsonrpc": "2.0", "id": request.id, "result": result})
        except ResourceExhausted as exc:
            frame = _error_frame(request.id, exc)
        except (TypeError, ValueError, RecursionError) as exc:
            text = f"{request.method}: the result is not JSON: {exc}"
            frame = _error_frame(request.id, Internal(text, reason="RESULT_NOT_JSON"))
        self._send_answer(request, frame)

    def _answer_error(self, request: Request, error: HyperError) -> None:
        if self._settle(request):
            self._send_answer(request, _error_frame(request.id, error))

    def _settle(self, request: Request) -> bool:
        """Is an answer to `request` still owed? It is not afterwards."""
        with self._changed:
            if request.answered or request.id is None:
                return False
            request.answered = True
        return True

    def _send_answer(self, request: Request, frame: bytes) -> None:
        """The request is in flight until its answer is out: whoever drains ends the process after that."""
        try:
            self._send_quietly(frame)
        finally:
            with self._changed:
                if self._in_flight.get(request.id or 0) is request:
                    del self._in_flight[request.id or 0]
                self._changed.notify_all()

    def _refuse(self, request_id: Any, code: int, text: str) -> None:
        known = request_id if isinstance(request_id, int) else None
        self._send_quietly(encode({"jsonrpc": "2.0", "id": known, "error": {"code": code, "message": text}}))

    def cancel(self, request_id: Any) -> None:
        """The other side no longer waits for this request of its. One that has not begun never does
        and is answered Cancelled; a running one runs to its end."""
        with self._changed:
            request = self._in_flight.get(request_id) if isinstance(request_id, int) else None
            if request is None:
                return
            request.cancelled = True
            if request.begun:
                return
        self._answer_error(request, Cancelled("the caller had gone before the call began"))

    def drain(self, timeout_s: float) -> bool:
        """Wait until nothing of the other side is in flight. False when it still is after `timeout_s`
        seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, timeout_s)

    # -- asking ----------------------------------------------------------------------------------------------

    def request(self, method: str, params: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        """Ask and wait for the result. Raises what the other side answered, DeadlineExceeded after
        `timeout_s` seconds, Unavailable (CONNECTION_CLOSED; the outcome is then unknown)."""
        pending = _Pending()
        with self._changed:
            request_id = self._next_id
            self._next_id += 1
            self._pending[request_id] = pending
        try:
            self._send(encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": dict(params)}))
            if not pending.done.wait(timeout_s):
                raise DeadlineExceeded(f"{method}: no answer within {timeout_s} s")
        finally:
            with self._changed:
                self._pending.pop(request_id, None)
        if pending.error is not None:
            raise pending.error
        return pending.result

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Tell, without an answer. Raises Unavailable (CONNECTION_CLOSED)."""
        self._send(encode({"jsonrpc": "2.0", "method": method, "params": dict(params)}))

    def _send(self, frame: bytes) -> None:
        try:
            with self._send_lock:
                if self.closed.is_set():
                    raise _closed()
                self._socket.sendall(frame)
        except OSError as exc:
            self.close()  # part of a frame may be out: the stream cannot be used any more
            raise _closed() from exc

    def _send_quietly(self, frame: bytes) -> None:
        with contextlib.suppress(Unavailable):  # whoever asked has gone; nobody is left to be told
            self._send(frame)

    def close(self) -> None:
        """End the connection. Idempotent; wakes the reader and every waiting request."""
        with self._changed:
            if self.closed.is_set():
                return
            self.closed.set()
            waiting = list(self._pending.values())
            self._pending.clear()
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for pending in waiting:
            pending.error = _closed()
            pending.done.set()


def _closed() -> Unavailable:
    return Unavailable("the connection is closed", reason="CONNECTION_CLOSED")


def _error_frame(request_id: int | None, error: HyperError) -> bytes:
    return encode({"jsonrpc": "2.0", "id": request_id, "error": error_to_rpc(error)})


def error_to_rpc(error: HyperError) -> dict[str, Any]:
    """The `error` member of a response. Texts are cut to MAX_ERROR_TEXT, so an error always fits a frame."""
    return {"code": APPLICATION_ERROR, "message": error.message[:MAX_ERROR_TEXT], "data": bounded_json(error)}


def bounded_json(error: HyperError) -> dict[str, Any]:
    """`error.to_json()` with its texts cut, at most 64 metadata entries and violations, and only finite
    numbers."""
    data = error.to_json()
    data["message"] = str(data["message"])[:MAX_ERROR_TEXT]
    data["metadata"] = {k[:256]: v[:MAX_ERROR_TEXT] for k, v in list(error.metadata.items())[:64]}
    wait = error.retry_after_s
    data["retry_after_s"] = float(wait) if isinstance(wait, int | float) and math.isfinite(wait) else None
    data["violations"] = [
        {"field": str(row["field"])[:1024], "description": str(row["description"])[:MAX_ERROR_TEXT]}
        for row in data.get("violations", [])[:64]
    ]
    return data


def error_from_rpc(error: Any) -> HyperError:
    """The typed error in a response's `error` member, whatever a peer put there."""
    if not isinstance(error, dict):
        return Internal("the peer answered with an error that is not an object", reason="PROTOCOL_ERROR")
    if isinstance(error.get("data"), dict):
        return from_json(error["data"])
    text = str(error.get("message") or "the peer gave no message")
    if error.get("code") == METHOD_NOT_FOUND:
        return Unsupported(text, reason="METHOD_UNKNOWN")
    return Internal(text, reason="PROTOCOL_ERROR")

"""Connection: requests on one socket, several at a time, each answered to whoever asked.

There is no reading thread: of those who wait, one reads for all until its own answer is whole, then another takes over.
So a connection with one user costs no switch of threads, and one with many has as many requests under way as users.

Its life: `Connection.open` (connected and negotiated); `submit` and `wait`, from any thread; then `close`, or a failure
(a broken protocol, a timeout, an end of the connection), after which every request, also those under way, raises it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd import faults
from hypersdk.data.nbd.address import NbdAddress
from hypersdk.data.nbd.handshake import Export, negotiate
from hypersdk.data.nbd.replies import Collector
from hypersdk.data.nbd.stream import Stream
from hypersdk.errors import HyperError, Unavailable, from_exception

_SLOW_ANSWER = 10
"""An answer may trickle in for so many times the timeout; a server that sends a byte now and then is no server."""
_MAX_ERROR_BYTES = 4096 + 64


class Request:
    """One request under way. `error` is the server's answer when it is none of success."""

    __slots__ = ("collector", "cookie", "deadline", "doing", "done", "error")

    def __init__(self, cookie: int, doing: str, collector: Collector, deadline: float) -> None:
        self.cookie = cookie
        self.doing = doing
        self.collector = collector
        self.deadline = deadline
        self.done = False
        self.error: HyperError | None = None


class Connection:
    """See the module's docstring. `export` is what was negotiated."""

    def __init__(self, stream: Stream, export: Export) -> None:
        self.export = export
        self._stream = stream
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()
        self._pending: dict[int, Request] = {}
        self._reading = False
        self._next_cookie = 1
        self._failure: HyperError | None = None

    @classmethod
    def open(cls, address: NbdAddress, contexts: Sequence[str] = (), timeout_s: float = 30.0) -> Connection:
        """Connect and negotiate. Raises the errors of `faults`, InvalidArgument for a wrong address."""
        stream = Stream(address.connect(timeout_s), timeout_s)
        try:
            return cls(stream, negotiate(stream, address.export, contexts))
        except BaseException:
            stream.close()
            raise

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def submit(
        self, command: int, offset: int, length: int, collector: Collector, payload: bytes | memoryview = b""
    ) -> Request:
        """Send a request. What `collector` and `payload` point to belongs to the connection until `wait` returns;
        `payload` only until this does. Raises what ended the connection."""
        doing = f"{c.COMMANDS[command]} at {offset}+{length}"
        deadline = time.monotonic() + _SLOW_ANSWER * self._stream.timeout_s
        with self._send_lock:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                request = Request(self._next_cookie, doing, collector, deadline)
                self._next_cookie += 1
                self._pending[request.cookie] = request
            try:
                self._stream.write([self._header(command, request.cookie, offset, length), payload], doing)
            except BaseException as exc:  # part of a request may be out: the stream cannot be used any more
                self._fail(from_exception(exc, doing=doing))
                raise
        return request

    def wait(self, request: Request) -> None:
        """Return when the answer is whole. Raises what the server answered, or what ended the connection."""
        while True:
            with self._changed:
                while self._reading and not request.done:
                    self._changed.wait()
                if request.done:
                    break
                self._reading = True
            self._read_for(request)
        if request.error is not None:
            raise request.error

    def call(self, command: int, offset: int, length: int, collector: Collector) -> None:
        """`submit` and `wait`."""
        self.wait(self.submit(command, offset, length, collector))

    def disconnect(self) -> None:
        """Take leave, when nothing is under way, and close. Idempotent; never raises."""
        if not self.failed and not self._pending:
            header = self._header(c.CMD_DISC, 0, 0, 0)
            try:
                with self._send_lock:
                    self._stream.write([header], "disconnecting")
            except HyperError:
                self.close()  # it has gone before us, which is what we wanted
        self.close()

    def close(self) -> None:
        """End the connection now; what is under way fails. Idempotent."""
        self._fail(Unavailable("the NBD connection was closed", reason="CONNECTION_CLOSED"))
        with self._send_lock:
            self._stream.close()

    def _read_for(self, request: Request) -> None:
        """As the reader: take in replies until `request` has its own."""
        try:
            while not request.done:
                self._receive()
        except BaseException as exc:
            # Wherever it stopped, the next byte is not known to begin a reply.
            self._fail(from_exception(exc, doing=request.doing))
            if not isinstance(exc, HyperError):
                raise
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()

    def _fail(self, failure: HyperError) -> None:
        with self._changed:
            if self._failure is None:
                self._failure = failure
            for request in self._pending.values():
                request.error = request.error or self._failure
                request.done = True
            self._pending.clear()
            self._changed.notify_all()
        self._stream.shutdown()

    def _header(self, command: int, cookie: int, offset: int, length: int) -> bytes:
        if not self.export.extended:
            return c.REQUEST.pack(c.REQUEST_MAGIC, 0, command, cookie, offset, length)
        flags = c.CMD_FLAG_PAYLOAD_LEN if command == c.CMD_WRITE else 0
        return c.EXTENDED_REQUEST.pack(c.EXTENDED_REQUEST_MAGIC, flags, command, cookie, offset, length)

    def _receive(self) -> None:
        """One reply, or one chunk of one."""
        head = self._stream.read(c.SIMPLE_REPLY.size, "waiting for an answer")
        magic = int.from_bytes(head[:4], "big")
        cookie = int.from_bytes(head[8:], "big")
        if magic == c.SIMPLE_REPLY_MAGIC and not self.export.extended:
            self._receive_simple(self._asked(cookie), int.from_bytes(head[4:8], "big"))
            return
        expected = c.EXTENDED_REPLY_MAGIC if self.export.extended else c.STRUCTURED_REPLY_MAGIC
        if magic != expected or not self.export.structured:
            raise faults.violation(f"a reply with magic {magic:#x}")
        flags, kind = int.from_bytes(head[4:6], "big"), int.from_bytes(head[6:8], "big")
        request = self._asked(cookie)
        if self.export.extended:
            rest = self._stream.read(c.EXTENDED_REST.size, request.doing, request.deadline)
            length = c.EXTENDED_REST.unpack(rest)[1]
        else:
            rest = self._stream.read(c.STRUCTURED_REST.size, request.doing, request.deadline)
            (length,) = c.STRUCTURED_REST.unpack(rest)
        done = bool(flags & c.REPLY_FLAG_DONE)
        if kind & c.REPLY_ERROR_BIT:
            self._receive_error(request, kind, length)
        elif kind == c.REPLY_NONE:
            if length or not done:
                raise faults.violation(f"an empty chunk that is not empty or not the last, to {request.doing}")
        else:
            request.collector.chunk(kind, length, self._stream, request.doing, request.deadline)
        if done:
            self._finish(request)

    def _receive_simple(self, request: Request, number: int) -> None:
        if self.export.structured and not request.collector.simple_is_enough:
            raise faults.violation(f"a simple reply to {request.doing}")
        if number:
            request.error = faults.refused(number, request.doing)
        else:
            request.collector.simple(self._stream, request.doing, request.deadline)
        self._finish(request)

    def _receive_error(self, request: Request, kind: int, length: int) -> None:
        tail = c.OFFSET.size if kind == c.REPLY_ERROR_OFFSET else 0
        if not c.ERROR.size + tail <= length <= _MAX_ERROR_BYTES:
            raise faults.violation(f"an error chunk of {length} bytes to {request.doing}")
        payload = self._stream.read(length, request.doing, request.deadline)
        number, count = c.ERROR.unpack_from(payload)
        words = payload[c.ERROR.size : length - tail]
        known = kind in {c.REPLY_ERROR, c.REPLY_ERROR_OFFSET}
        if not number or count > len(words) or (known and count != len(words)):
            raise faults.violation(f"an error chunk that contradicts itself, to {request.doing}")
        if request.error is None:
            request.error = faults.refused(number, request.doing, words[:count])

    def _asked(self, cookie: int) -> Request:
        request = self._pending.get(cookie)
        if request is None:
            raise faults.violation(f"an answer with the cookie {cookie}, which no open request has")
        return request

    def _finish(self, request: Request) -> None:
        if request.error is None:
            request.collector.complete(request.doing)
        with self._changed:
            self._pending.pop(request.cookie, None)
            request.done = True
            self._changed.notify_all()

"""HostHarness: a host process and a connection to it that keeps to the protocol, or breaks it on purpose.

Its life: made (which starts the process), `initialize`, any number of `request`, `send_raw` …, `close`. What the host
sends is decoded by a thread; whatever breaks the protocol is kept in `violation`.

Not here: what answers are right (protocol, methods).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hypersdk.errors import DataLoss
from hypersdk.wire.frames import Decoder

PYTHON_HOST = (sys.executable, "-I", "-B", "-m", "hypersdk.host")
TIMEOUT_S = 10.0
_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Answer:
    """To one request. Exactly one of `result` and `error` counts: `error` is None for a result."""

    result: Any
    error: Mapping[str, Any] | None
    seconds: float

    @property
    def kind(self) -> str:
        """The error's class; empty for a result or for an error of JSON-RPC itself."""
        return str(self._data().get("kind", ""))

    @property
    def reason(self) -> str:
        return str(self._data().get("reason", ""))

    @property
    def code(self) -> int:
        return int((self.error or {}).get("code", 0))

    def _data(self) -> Mapping[str, Any]:
        data = (self.error or {}).get("data")
        return data if isinstance(data, dict) else {}


class NoAnswer(Exception):
    """None came in time, or the connection ended before."""


class HostHarness:
    """A running host. Thread-safe. `command` gets `--fd N` appended, as the kernel does. `patience_s`: the longest wait
    for an answer that names no other."""

    def __init__(
        self, command: Sequence[str | Path] = PYTHON_HOST, cwd: Path | None = None, patience_s: float = TIMEOUT_S
    ) -> None:
        self.patience_s = patience_s
        ours, theirs = socket.socketpair()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self.process = subprocess.Popen(
            [*map(str, command), "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
            env=env, cwd=cwd or "/", start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._socket = ours
        self._changed = threading.Condition()
        self._next_id = 1
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._asked: dict[int, float] = {}
        self.notifications: list[Mapping[str, Any]] = []
        self.violation = ""
        self.ended = False
        threading.Thread(target=self._read, name="harness", daemon=True).start()

    # -- what the host sends ---------------------------------------------------------------------------------

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := self._socket.recv(65536):
                for message in decoder.feed(data):
                    self._take(message)
        except DataLoss as exc:
            self._break(f"the host sent {exc.message}")
        except OSError:
            pass  # a reset, or close() of ours
        if decoder.pending and not self.violation:
            self._break(f"the connection ended inside a frame, after {decoder.pending} bytes of it")
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        request_id = message.get("id")
        with self._changed:
            if "method" in message and request_id is None:
                self.notifications.append(message)
                if message.get("method") != "log" or not isinstance(message.get("params"), dict):
                    self.violation = self.violation or f"a notification that no host sends: {str(message)[:200]}"
            elif "method" in message:
                self.violation = self.violation or f"the host asked the kernel for something: {str(message)[:200]}"
            elif request_id is None and "error" in message:
                self.notifications.append(message)  # the answer to what had no usable id
            elif not isinstance(request_id, int) or request_id not in self._asked:
                self.violation = self.violation or f"an answer to nothing that was asked: {str(message)[:200]}"
            elif request_id in self._answers:
                self.violation = self.violation or f"a second answer to request {request_id}"
            elif ("result" in message) == ("error" in message):
                self.violation = self.violation or f"an answer with both or none of result and error: {message!r:.200}"
            else:
                self._answers[request_id] = message | {"at": time.monotonic()}
            self._changed.notify_all()

    def _break(self, text: str) -> None:
        with self._changed:
            self.violation = self.violation or text

    # -- what we send ----------------------------------------------------------------------------------------

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are. A host that has gone is no error here: its end is what some checks look for."""
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def send(self, message: Mapping[str, Any]) -> None:
        self.send_raw(frame(message))

    def ask(self, method: str, params: Any) -> int:
        """Send a request; its id."""
        with self._changed:
            request_id = self._next_id
            self._next_id += 1
            self._asked[request_id] = time.monotonic()
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        return request_id

    def expect(self, request_id: int) -> None:
        """A request with this id was sent by send_raw."""
        with self._changed:
            self._asked[request_id] = time.monotonic()
            self._next_id = max(self._next_id, request_id + 1)

    def wait(self, request_id: int, timeout_s: float | None = None) -> Answer:
        """Raises NoAnswer."""
        timeout_s = self.patience_s if timeout_s is None else timeout_s
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._answers or self.ended, timeout_s)
            found = self._answers.get(request_id)
        if found is None:
            why = f"the host {self.fate()}" if self.ended else f"none came within {timeout_s:g} s"
            raise NoAnswer(f"no answer to request {request_id}: {why}")
        error = found.get("error")
        known = error if isinstance(error, dict) else ({"message": repr(error)} if "error" in found else None)
        return Answer(found.get("result"), known, found["at"] - self._asked[request_id])

    def request(self, method: str, params: Any = None, timeout_s: float | None = None) -> Answer:
        return self.wait(self.ask(method, {} if params is None else params), timeout_s)

    def notify(self, method: str, params: Any) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def call(
        self, component: str, method: str, request: Any = None, connection: Any = None, *,
        service: str = "", timeout_s: float | None = None,
    ) -> Answer:  # fmt: skip
        """A `call` of the protocol."""
        return self.wait(self.ask_call(component, method, request, connection, service=service), timeout_s)

    def ask_call(
        self, component: str, method: str, request: Any = None, connection: Any = None, *, service: str = ""
    ) -> int:
        params = {"component": component, "method": method, "service": service, "timeout_s": TIMEOUT_S}
        return self.ask("call", {**params, "request": request or {}, "connection": connection})

    # -- the process -----------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """What it printed so far."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), min(size, 1 << 20), 0).decode("utf-8", "replace")

    def wait_end(self, timeout_s: float) -> int | None:
        """Its exit status; None when it still runs after `timeout_s` seconds."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def hang_up(self) -> None:
        """Close our end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def fate(self) -> str:
        """How it ended, for people."""
        status = self.wait_end(1.0)
        if status is None:
            return "closed its connection"
        last = " | ".join(self.output.strip().splitlines()[-3:])
        how = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        return how + (f", having printed: {last[-300:]}" if last else "")

    def close(self) -> None:
        """End it, whatever state it is in, and everything that it started. Idempotent."""
        self.hang_up()
        if self.wait_end(2.0) is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # programs that it left; the group is its own
        self._socket.close()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame(message: Mapping[str, Any]) -> bytes:
    """One frame, of any size."""
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body

"""The frames between the kernel and its children, one JSON line each, for whoever debugs a plugin (`--trace-frames`).

    {"time": 1795633498.1, "direction": "sent", "peer": "host", "generation": "plugins/x/generations/1", "id": 7,
     "method": "call", "called": "format/x GetFormat", "bytes": 214, "payload": {…}}

Secrets do not get in: what a frame carries below a name that is for secrets (`secrets`, `token`, `password`) is masked
whatever it is, a vault's answers are masked whole, and every value so seen is masked wherever it turns up later, in
either direction. It knows values: a secret that a plugin encodes or splits is not recognised.

Process-wide, as logging is: `install` it before the first child is started. A connection that is made while none is
installed is never traced, and costs a comparison with None for each frame.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from hypersdk.wire.redact import MASK, Redactor

MAX_PAYLOAD_CHARS = 4096
MAX_FILE_BYTES = 64 << 20
"""Then the file becomes `FILE.1`, in the place of an older one: twice this is all that a trace takes."""
_MAX_SECRETS = 1024
_HIDDEN = frozenset({"secrets", "secret", "token", "password", "credentials", "authorization", "redact"})
_VAULT = "secrets/"

log = structlog.get_logger(__name__)


class FrameTrace:
    """Where lines go. Thread-safe. `path` None: standard error. A file that cannot be written ends the trace, with a
    line in the log, and nothing else."""

    def __init__(self, path: Path | None, now: Callable[[], float], max_bytes: int = MAX_FILE_BYTES) -> None:
        self._path = path
        self._now = now
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._secrets: dict[str, None] = {}
        self._redactor = Redactor()
        self._fd: int | None = sys.stderr.fileno() if path is None else _open(path)
        self._size = 0 if path is None else os.fstat(self._fd).st_size

    def write(self, fields: Mapping[str, Any], payload: Any, *, hide: bool = False) -> None:
        """`hide`: the payload is a secret as a whole."""
        self._learn(payload, below_secret=hide)
        shown = MASK if hide else self._redactor.value(_masked(payload))
        text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"), default=str)
        whole = len(text) <= MAX_PAYLOAD_CHARS
        record = {"time": round(self._now(), 6), **self._redactor.value(fields)}
        record |= {"payload": shown} if whole else {"payload_start": text[:MAX_PAYLOAD_CHARS]}
        line = json.dumps(record, separators=(",", ":"), default=str).encode("ascii") + b"\n"
        with self._lock:
            if self._fd is None:
                return
            try:
                if self._path is not None and self._size + len(line) > self._max_bytes:
                    self._turn(self._path)
                os.write(self._fd, line)
                self._size += len(line)
            except OSError as exc:
                log.warning("frame_trace_ended", path=str(self._path), error=exc.strerror)
                self._fd = None

    def close(self) -> None:
        with self._lock:
            if self._fd is not None and self._path is not None:
                os.close(self._fd)
            self._fd = None

    def _turn(self, path: Path) -> None:
        assert self._fd is not None
        os.replace(path, path.with_name(f"{path.name}.1"))
        fresh = _open(path)
        os.close(self._fd)
        self._fd, self._size = fresh, 0

    def _learn(self, value: Any, *, below_secret: bool) -> None:
        """Remember every text below a name that is for secrets."""
        found = [text for text in _secrets_in(value, below_secret) if text not in self._secrets]
        if found:
            self._secrets |= dict.fromkeys(found)
            for old in list(self._secrets)[: max(0, len(self._secrets) - _MAX_SECRETS)]:
                del self._secrets[old]
            self._redactor = Redactor(self._secrets)


class ConnectionTrace:
    """One connection's part: it knows what an answer answers."""

    def __init__(self, trace: FrameTrace, about: Mapping[str, Any]) -> None:
        self._trace = trace
        self._about = dict(about)
        self._asked: dict[Any, dict[str, str]] = {}

    def sent(self, message: Mapping[str, Any], size: int) -> None:
        self._frame("sent", message, size)

    def received(self, message: Mapping[str, Any], size: int) -> None:
        self._frame("received", message, size)

    def _frame(self, direction: str, message: Mapping[str, Any], size: int) -> None:
        number, method = message.get("id"), message.get("method")
        if method is not None:
            what = {"method": str(method), **_called(message.get("params"))}
            if direction == "sent" and number is not None:
                self._asked[number] = what
        else:
            what = self._asked.pop(number, {}) if isinstance(number, int) else {}
        fields = {"direction": direction, **self._about, **({} if number is None else {"id": number}), **what}
        payload = next((message[key] for key in ("params", "result", "error") if key in message), None)
        hide = "result" in message and what.get("called", "").startswith(_VAULT)
        self._trace.write({**fields, "bytes": size}, payload, hide=hide)


_current: FrameTrace | None = None


@contextlib.contextmanager
def install(trace: FrameTrace) -> Iterator[None]:
    """Trace every connection that is made while the context is open."""
    global _current  # noqa: PLW0603  one process, one trace, as with logging
    _current = trace
    try:
        yield
    finally:
        _current = None
        trace.close()


def of_connection(about: Mapping[str, Any]) -> ConnectionTrace | None:
    """For a new connection; None when nothing is traced."""
    return None if _current is None else ConnectionTrace(_current, about)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _called(params: Any) -> dict[str, str]:
    if not isinstance(params, dict) or "component" not in params:
        return {}
    return {"called": f"{params['component']} {params.get('method')}"[:200]}


def _secrets_in(value: Any, below_secret: bool) -> Iterator[str]:
    if isinstance(value, str):
        if below_secret:
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets_in(inner, below_secret or key in _HIDDEN)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets_in(inner, below_secret)


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: MASK if key in _HIDDEN and inner else _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return value

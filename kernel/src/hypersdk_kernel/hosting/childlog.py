"""What a host prints and logs, in the kernel's log: line by line, cut, bounded in rate, without secrets.

The pipe is always drained, for a full one would block the plugin; lines above the rate are counted instead of
written.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

import structlog

MAX_LINE_BYTES = 8192
READ_BYTES = 64 << 10
LEVELS = frozenset({"debug", "info", "warning", "error"})

log = structlog.get_logger(__name__)


class ChildLog:
    """The log of one host process. Its life: `attach` a pipe for each stream; lines flow until the last writer closes
    it or `close`.

    redact            (fields) → fields that may be written
    lines_per_second  more than that in one second are only counted
    """

    def __init__(
        self,
        generation: str,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        lines_per_second: int,
    ) -> None:
        self._log = log.bind(generation=generation)
        self._redact = redact
        self._limit = lines_per_second
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._written = 0
        self._suppressed = 0
        self._partial: dict[int, bytes] = {}
        self._streams: dict[int, str] = {}

    def attach(self, stream: str) -> int:
        """The write end of a fresh pipe for `stream` (stdout, stderr); the caller closes it after the start."""
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        self._partial[read_end] = b""
        self._streams[read_end] = stream
        self._loop.add_reader(read_end, self._on_readable, read_end)
        return write_end

    def record(self, params: Mapping[str, Any]) -> None:
        """A `log` notification of the host."""
        if not self._admit():
            return
        level = str(params.get("level"))
        raw = params.get("fields")
        fields = self._redact(raw) if isinstance(raw, dict) else {}
        write = getattr(self._log, level if level in LEVELS else "info")
        write("host_logged", host_event=str(params.get("event"))[:200], fields=fields)

    def close(self) -> None:
        """Read what is left in the pipes (64 KiB at most, so one read takes it) and let go of them. Idempotent."""
        for fd in list(self._partial):
            self._on_readable(fd)
            self._drop(fd)
        self._report_suppressed()

    def _on_readable(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._drop(fd)
            return
        *lines, rest = (self._partial[fd] + data).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._partial[fd] = rest
        for line in lines:
            self._line(line, self._streams[fd])

    def _drop(self, fd: int) -> None:
        rest = self._partial.pop(fd, None)
        if rest is None:
            return
        stream = self._streams.pop(fd)
        self._loop.remove_reader(fd)
        os.close(fd)
        if rest:
            self._line(rest, stream)

    def _line(self, line: bytes, stream: str) -> None:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip()
        if text and self._admit():
            self._log.info("host_printed", stream=stream, line=text)

    def _admit(self) -> bool:
        second = int(self._loop.time())
        if second != self._second:
            self._report_suppressed()
            self._second, self._written = second, 0
        if self._written >= self._limit:
            self._suppressed += 1
            return False
        self._written += 1
        return True

    def _report_suppressed(self) -> None:
        if self._suppressed:
            self._log.warning("host_log_suppressed", lines=self._suppressed, limit_per_second=self._limit)
            self._suppressed = 0

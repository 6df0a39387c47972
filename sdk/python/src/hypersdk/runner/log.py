"""log.jsonl: the structured lines of an attempt, `{"time", "level", "event", "fields"}`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypersdk.wire.redact import Redactor

FILE_NAME = "log.jsonl"
LEVELS = frozenset({"debug", "info", "warning", "error"})
MAX_LINE_BYTES = 64 << 10
"""A longer line keeps its event and loses its fields."""


class AttemptLog:
    """Thread-safe: every line is one write to a file opened for appending."""

    def __init__(self, path: Path, redactor: Redactor, clock: Callable[[], float] = time.time) -> None:
        self._redactor = redactor
        self._clock = clock
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)

    def write(self, event: str, level: str, fields: Mapping[str, Any]) -> None:
        """Never raises for the disk: a full one fails the journal, which counts, and must not fail a log
        line first."""
        line = self._line(event, level, fields)
        if len(line) > MAX_LINE_BYTES:
            line = self._line(event[:1024], level, {"fields_dropped_bytes": len(line)})
        with contextlib.suppress(OSError):
            os.write(self._fd, line)

    def _line(self, event: str, level: str, fields: Mapping[str, Any]) -> bytes:
        record = {
            "time": self._clock(),
            "level": level if level in LEVELS else "info",
            "event": self._redactor.text(event),
            "fields": self._redactor.value(fields),
        }
        # Whatever a plugin logs becomes text: a path, an exception. Redacted once more, now that it is text.
        text = json.dumps(record, separators=(",", ":"), default=lambda v: self._redactor.text(str(v)))
        return text.encode("ascii") + b"\n"

"""log.jsonl: the structured lines of an attempt, `{"time", "level", "event", "fields"}`, in files of bounded size.

The file that is written to is `log.jsonl`. When it is full it becomes `log.<n>.jsonl`, n counting up from 1, and a new
one begins with the line `log_rotated`; the oldest are deleted, and that line says how many there were. A reader that
holds a file open reads it to its end, whatever it is called by then, and finds the next one by its number.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypersdk.wire.redact import Redactor

FILE_NAME = "log.jsonl"
LEVELS = frozenset({"debug", "info", "warning", "error"})
MAX_LINE_BYTES = 64 << 10
"""A longer line keeps its event and loses its fields."""
FILE_BYTES = 16 << 20
FILES = 4
"""With the one that is written to. A task that logs without end keeps its last 64 MiB."""
_ROTATED = re.compile(r"log\.([1-9][0-9]{0,17})\.jsonl")
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class AttemptLog:
    """Thread-safe. `file_bytes`: a file ends with the line that goes beyond it. `files`: kept, at least 1."""

    def __init__(
        self,
        path: Path,
        redactor: Redactor,
        clock: Callable[[], float] = time.time,
        *,
        file_bytes: int = FILE_BYTES,
        files: int = FILES,
    ) -> None:
        self._path = path
        self._redactor = redactor
        self._clock = clock
        self._file_bytes = file_bytes
        self._files = max(1, files)
        self._lock = threading.RLock()  # reentrant: a signal handler may log, too
        self._dropped = 0
        self._fd = os.open(path, _FLAGS, 0o600)
        self._size = os.fstat(self._fd).st_size

    def write(self, event: str, level: str, fields: Mapping[str, Any]) -> None:
        """Never raises for the disk: a full one fails the journal, which counts, and must not fail a log
        line first."""
        line = self._line(event, level, fields)
        if len(line) > MAX_LINE_BYTES:
            line = self._line(event[:1024], level, {"fields_dropped_bytes": len(line)})
        with self._lock, contextlib.suppress(OSError):
            if self._size >= self._file_bytes:
                self._rotate()
            self._size += os.write(self._fd, line)

    def _rotate(self) -> None:
        """A new file; on a disk where that cannot be made the old one goes on."""
        kept = sorted(rotated(self._path.parent))
        number = kept[-1] + 1 if kept else 1
        surplus = len(kept) + 2 - self._files
        for old in kept[: max(0, surplus)]:
            os.unlink(self._path.with_name(f"log.{old}.jsonl"))
            self._dropped += 1
        if self._files == 1:
            os.unlink(self._path)
            self._dropped += 1
        else:
            os.rename(self._path, self._path.with_name(f"log.{number}.jsonl"))
        fresh = os.open(self._path, _FLAGS, 0o600)
        os.close(self._fd)
        self._fd, self._size = fresh, 0
        fields = {"dropped_files": self._dropped, "file_bytes": self._file_bytes}
        self._size += os.write(self._fd, self._line("log_rotated", "warning" if self._dropped else "info", fields))

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


def rotated(folder: Path) -> list[int]:
    """Numbers of the full files in an attempt's folder."""
    return [int(found[1]) for name in os.listdir(folder) if (found := _ROTATED.fullmatch(name))]

"""output.log: what a task and the programs it starts print, bounded though nobody asks before writing to it.

Standard output and error are the file itself: what a dying process wrote last is there, and a C library that prints
while it holds the interpreter can neither block nor be lost, as with a pipe and a thread behind it. So the file is
not renamed but emptied: its last part is copied to `output.1.log`, then it is truncated. All writers append, so they go
on at the new end. Between two looks a program may print what the disk takes in LOOK_S.

Nobody follows this file; log.jsonl is for that (`log`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

FILE_NAME = "output.log"
LOOK_S = 0.1
"""One fstat; 3 µs."""
_CHUNK = 1 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


class OutputGuard:
    """Keeps output.log below `file_bytes` and `files` - 1 older parts of it. Its life: `start`, until the process
    ends."""

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        self._path = path
        self._file_bytes = file_bytes
        self._files = max(1, files)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._dropped = 0

    def start(self) -> None:
        threading.Thread(target=self._run, name="output-guard", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Empty the file if it is too large. A disk that is full or a file that was taken away changes nothing."""
        with self._lock, contextlib.suppress(OSError):
            if os.stat(self._path, follow_symlinks=False).st_size > self._file_bytes:
                self._empty()

    def _empty(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            kept = 0
            try:
                kept = self._keep(fd, size)
            finally:  # though there be no room to keep anything
                os.ftruncate(fd, 0)
                self._dropped += size - kept
                told = f"[hypersdk: output.log was full; {self._dropped} bytes of what was printed are dropped]\n"
                os.write(fd, told.encode("ascii"))
        finally:
            os.close(fd)

    def _keep(self, fd: int, size: int) -> int:
        """Copy the last part to output.1.log, whose forerunners move up by one; how many bytes."""
        if self._files == 1:
            return 0
        oldest = self._part(self._files - 1)
        with contextlib.suppress(FileNotFoundError):
            self._dropped += os.stat(oldest).st_size
            os.unlink(oldest)
        for number in range(self._files - 2, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._part(number), self._part(number + 1))
        start = max(0, size - self._file_bytes)
        copy = os.open(self._part(1), _FLAGS, 0o600)
        try:
            at = start
            while at < size:
                data = os.pread(fd, min(_CHUNK, size - at), at)
                if not data:
                    break
                at += os.write(copy, data)
        finally:
            os.close(copy)
        return at - start

    def _part(self, number: int) -> Path:
        return self._path.with_name(f"output.{number}.log")

"""A child's descriptors: the protocol's is put out of a plugin's reach, and whatever is printed is output,
never protocol.

Also the process attributes that keep a child's memory (secrets are in it) private: set here because
PR_SET_DUMPABLE does not survive exec. Costs 3 ms, the import of ctypes (measured, CPython 3.11).
"""

from __future__ import annotations

import fcntl
import io
import os
import resource
import sys
import threading

from hypersdk.wire.redact import Redactor

_PROTECTED_FROM = 200
"""Descriptors that plugins must not hit by `os.close(3)` or `os.closerange(3, 64)` are moved up here."""
_MAX_LINE_CHARS = 65536
_PR_SET_DUMPABLE = 4
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_CHILD_SUBREAPER = 36


def claim(fd: int) -> int:
    """The same open file under a high, close-on-exec number; the old number is closed."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _PROTECTED_FROM)
    os.close(fd)
    return high


def detach_stdio(output_fd: int | None, redactor: Redactor) -> None:
    """stdin reads nothing; stdout and stderr both go to `output_fd` (None: to where stderr goes), line by
    line and redacted where Python writes them."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null > 2:
        os.close(null)
    if output_fd is not None:
        os.dup2(output_fd, 2)
    os.dup2(2, 1)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _RedactedStream(1, redactor)
    sys.stderr = _RedactedStream(2, redactor)


class _RedactedStream(io.TextIOWrapper):
    """A line-buffered text stream on a descriptor that hides secrets. Lines that cannot be written (full
    disk, reader gone) are dropped: printing must never be what fails a job."""

    def __init__(self, fd: int, redactor: Redactor) -> None:
        super().__init__(io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace")
        self._redactor = redactor
        self._line = ""
        self._lock = threading.RLock()  # reentrant: a signal handler may print, too

    def write(self, text: str, /) -> int:
        # A secret may come in pieces (print writes its arguments one by one), so whole lines are redacted.
        with self._lock:
            whole, newline, self._line = (self._line + text).rpartition("\n")
            self._emit(whole + newline)
            if len(self._line) > _MAX_LINE_CHARS:
                self.flush()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            line, self._line = self._line, ""
            self._emit(line)

    def _emit(self, text: str) -> None:
        data = self._redactor.text(text).encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self.fileno(), data) :]
            except OSError:
                return


def die_with(parent_pid: int) -> None:
    """From now on this process is killed when the thread that started it ends, and at once if it has."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def harden() -> None:
    """No core files, no tracing or reading of this process by others of the same user, no gain of
    privileges by exec. A C library without prctl is no Linux, where none of this applies."""
    import ctypes

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what it starts stays below it, and can be counted and ended
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

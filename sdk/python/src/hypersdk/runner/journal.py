"""The journal: one JSON object a line, append-only, the runner's truth.

A record is *committed* when its line is whole in the file and, where asked, on stable storage. Only
committed records are seen by `read_from`, so what a kernel is told has happened durably. A line that could
not be written is taken back.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hypersdk.errors import Internal, ResourceExhausted, from_exception
from hypersdk.wire.redact import Redactor

FILE_NAME = "journal.jsonl"
MAX_RECORD_BYTES = 2 << 20
"""Above a task's result (1 MiB at most), below a frame (8 MiB), in which records travel to the kernel."""
_READ_BYTES = 4 << 20


class Journal:
    """One attempt's journal, open for appending. Thread-safe. `changed` is notified after every commit."""

    def __init__(self, path: Path, redactor: Redactor, clock: Callable[[], float] = time.time) -> None:
        """Creates the file, or goes on after the last whole line of one that is there."""
        self._redactor = redactor
        self._clock = clock
        self.changed = threading.Condition()
        self._write_lock = threading.Lock()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._seq, self._committed = _end_of(path)
        os.ftruncate(self._fd, self._committed)
        _sync_directory(path.parent)

    @property
    def seq(self) -> int:
        """Number of the last committed record; 0 when there is none."""
        return self._seq

    def append(self, kind: str, fields: Mapping[str, Any], *, sync: bool = False, verbatim: bool = False) -> int:
        """Commit one record and return its number. `sync`: on stable storage when it returns. `verbatim`: not
        redacted, for what must be read back as it was and was checked by the caller.

        Raises ResourceExhausted (DISK_FULL, RECORD_TOO_LARGE), Internal (RECORD_NOT_JSON); then nothing was
        appended."""
        with self._write_lock:
            seq = self._seq + 1
            told = fields if verbatim else self._redactor.value(fields)
            line = self._line({"seq": seq, "time": self._clock(), "type": kind, **told})
            try:
                _write_all(self._fd, line, self._committed)
                if sync:
                    os.fdatasync(self._fd)
            except OSError as exc:
                with contextlib.suppress(OSError):  # the next record overwrites the torn line in any case
                    os.ftruncate(self._fd, self._committed)
                raise from_exception(exc, doing=f"journal record {kind!r}") from exc
            with self.changed:
                self._seq, self._committed = seq, self._committed + len(line)
                self.changed.notify_all()
        return seq

    def _line(self, record: dict[str, Any]) -> bytes:
        try:
            line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
        except (TypeError, ValueError, RecursionError) as exc:
            text = f"journal record {record['type']!r} is not JSON: {exc}"
            raise Internal(text, reason="RECORD_NOT_JSON") from exc
        if len(line) > MAX_RECORD_BYTES:
            raise ResourceExhausted(
                f"journal record {record['type']!r} of {len(line)} bytes is above {MAX_RECORD_BYTES}",
                reason="RECORD_TOO_LARGE",
                retryable=False,
            )
        return line

    def read_from(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Committed records from a byte offset (0, or what an earlier call returned) on, some MiB at most,
        and the offset after them."""
        size = min(self._committed - offset, _READ_BYTES)
        data = os.pread(self._fd, size, offset) if size > 0 else b""
        whole = data[: data.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def read_records(path: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """The whole records of the given types in a journal that nobody writes any more. No file: no records. A
    line that is no record (a damaged disk) is passed over."""
    marks = tuple(f'"type":"{kind}"'.encode() for kind in kinds)
    try:
        file = open(path, "rb")  # noqa: SIM115 - only a missing file means "no records", not one below
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.endswith(b"\n") and any(mark in line for mark in marks):
                record = _record(line)
                if record.get("type") in kinds:
                    yield record


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _end_of(path: Path) -> tuple[int, int]:
    """Number of the last whole record of an existing journal, and the offset after it."""
    seq = offset = 0
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                offset += len(line)
                seq = max(seq, int(_record(line).get("seq", 0)))
    return seq, offset


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

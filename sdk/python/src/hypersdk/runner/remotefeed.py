"""What an agent reads out of its run directory for the kernel: journal records, the checkpoint, logs.

The journal is read from its file, up to the record that the runner said is committed: nothing is held in memory for a
kernel that is away, and a record that the disk refused is never told.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypersdk.runner.checkpoint import FILE_NAME as CHECKPOINT
from hypersdk.runner.checkpoint import MAX_BYTES
from hypersdk.runner.journal import FILE_NAME as JOURNAL

BATCH_BYTES = 2 << 20
CHUNK_BYTES = 1 << 20
LOG_BYTES = 256 << 10
LOGS = {"log": "log.jsonl", "output": "output.log"}


class JournalFeed:
    """Records in order of their numbers. `committed` is raised by whoever hears the runner."""

    def __init__(self, attempt: Path) -> None:
        self._path = attempt / JOURNAL
        self._offset = 0
        self._last = 0
        self.committed = 0

    def rewind(self, acked: int) -> None:
        """From the record after `acked` on."""
        if acked < self._last:
            self._offset = self._last = 0

    @property
    def waiting(self) -> bool:
        return self._last < self.committed

    def take(self, after: int) -> list[dict[str, Any]]:
        """The next records above `after`; some MiB at most."""
        if not self.waiting:
            return []
        found: list[dict[str, Any]] = []
        size = 0
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                record = json.loads(line)
                if record["seq"] > self.committed:
                    break
                self._offset += len(line)
                self._last = record["seq"]
                if record["seq"] > after:
                    found.append(record)
                    size += len(line)
                    if size > BATCH_BYTES:
                        break
        return found

    def finish(self) -> None:
        """The runner is gone: what is whole in the file is all there will ever be."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    with contextlib.suppress(ValueError, TypeError):
                        self.committed = max(self.committed, int(json.loads(line).get("seq", 0)))


def checkpoint_chunks(job: Path) -> Iterator[dict[str, Any]]:
    """The checkpoint in pieces, as the kernel takes it; nothing when there is none."""
    try:
        data = (job / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return
    if len(data) > MAX_BYTES:
        return  # the runner writes none of that size
    digest = hashlib.sha256(data).hexdigest()
    for offset in range(0, max(len(data), 1), CHUNK_BYTES):
        piece = base64.b64encode(data[offset : offset + CHUNK_BYTES]).decode("ascii")
        yield {"offset": offset, "total": len(data), "sha256": digest, "data": piece}


class LogFeed:
    """The bytes of one log file, in order, through its renaming when it is full. `left_out` counts bytes that were
    never sent because more was written than is taken."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._left = limit

    def take(self) -> bytes:
        """The next bytes, none when there are none or the limit is reached."""
        if self._fd < 0:
            with contextlib.suppress(FileNotFoundError):
                self._fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._offset = 0
        if self._fd < 0:
            return b""
        size = os.fstat(self._fd).st_size
        if size < self._offset:  # output.log is emptied in place
            self._offset = 0
        data = os.pread(self._fd, min(LOG_BYTES, self._left), self._offset) if self._left > 0 else b""
        if not data and self._replaced():
            os.close(self._fd)
            self._fd = -1
        return data

    def taken(self, size: int) -> None:
        """The kernel has so many bytes of what `take` gave last."""
        self._offset += size
        self._left -= size

    def _replaced(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._path).st_ino != os.fstat(self._fd).st_ino
        return False

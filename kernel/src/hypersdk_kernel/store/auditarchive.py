"""Files that the oldest entries of the audit trail are moved to (hypersdk.auditchain has their format).

Entries are appended and synced before they are dropped from the store. A crash in between, or in the middle of a line,
costs nothing: what is in the files already is known by its number and not written again.

Not here: which entries are old (engine.auditkeeping).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hypersdk.auditchain import AuditEntry, archive_files, archived, entries
from hypersdk.errors import DataLoss, from_exception

from hypersdk_kernel.store.backup import sync_directory

FILE_BYTES = 16 << 20
"""A file that is as large is not added to any more."""


class AuditArchive:
    """One kernel's. Synchronous; one caller at a time."""

    def __init__(self, folder: Path, file_bytes: int = FILE_BYTES) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._file: Path | None = None
        self._last = self._newest = 0
        """Numbers: the last in that file, and the greatest in any."""
        self._looked = False

    def append(self, found: Sequence[AuditEntry]) -> None:
        """Entries that follow each other. On disk when this returns. Raises DataLoss (AUDIT_ARCHIVE_DIFFERS) when the
        files have another entry of the same number, ResourceExhausted (DISK_FULL) and others of a file system."""
        try:
            if not self._looked:
                self._mend()
            new = self._new(found)
            if new:
                self._write(new)
        except OSError as exc:
            self._looked = False
            raise from_exception(exc, doing="archiving audit entries") from exc

    def _mend(self) -> None:
        """Take away what a crash left of a line, and learn where the files end."""
        self._file = None
        self._last = self._newest = 0
        for file in reversed(archive_files([self._folder])):
            whole = 0
            for entry in entries(file):
                self._last = self._newest = entry.seq
            with file.open("r+b") as opened:
                for line in opened:
                    whole += len(line) if line.endswith(b"\n") else 0
                if whole < os.fstat(opened.fileno()).st_size:
                    opened.truncate(whole)
                    os.fsync(opened.fileno())
            if whole:
                self._file = file
                break
            file.unlink()  # made, and nothing was written into it
        self._looked = True

    def _new(self, found: Sequence[AuditEntry]) -> list[AuditEntry]:
        """Those that the files do not have."""
        if found[0].seq > self._newest:
            return list(found)
        wanted = range(found[0].seq, found[-1].seq + 1)
        here = {entry.seq: entry for entry in archived([self._folder]) if entry.seq in wanted}
        for entry in found:
            if here.get(entry.seq, entry) != entry:
                raise DataLoss(
                    f"audit entry {entry.seq} in {self._folder} is not the one of the database, which was perhaps put "
                    "back from a backup; move the files elsewhere, and the next entries get new ones",
                    reason="AUDIT_ARCHIVE_DIFFERS",
                )
        return [entry for entry in found if entry.seq not in here]

    def _write(self, new: Sequence[AuditEntry]) -> None:
        file = self._file
        fresh = file is None or new[0].seq != self._last + 1 or file.stat().st_size >= self._file_bytes
        if fresh or file is None:
            file = self._folder / f"audit-{new[0].seq:012}.jsonl"
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(b"".join(entry.line() for entry in new))
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        if fresh:
            sync_directory(self._folder)
        self._file, self._last = file, new[-1].seq
        self._newest = max(self._newest, self._last)

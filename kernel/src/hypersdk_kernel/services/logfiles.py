"""The files of one attempt's log, read as one: `log.1.jsonl`, `log.2.jsonl`, …, `log.jsonl` (see hypersdk.runner.log).

A file that is open is read to its end though it be renamed or deleted meanwhile; the next is found by its number.
Synchronous; for one reader.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_ROTATED = re.compile(r"log\.([1-9][0-9]{0,17})\.jsonl")


class LogFiles:
    """`live`: path of log.jsonl. `close` when done."""

    def __init__(self, live: Path) -> None:
        self._live = live
        self._fd = -1
        self._offset = 0
        self._number = 0
        """Of the last full file that was read to its end or had gone."""

    def read(self, size: int) -> bytes:
        """The next bytes; none when there are none (yet)."""
        for _ in range(3):  # the file at hand, the one after it, and that one renamed in between
            if self._fd < 0 and not self._open_next():
                return b""
            data = self._pread(size)
            if data:
                return data
            if not self._left_behind():
                return b""
            data = self._pread(size)  # what was written before it was renamed
            if data:
                return data
            self.close()
        return b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._offset = -1, 0

    def _pread(self, size: int) -> bytes:
        data = os.pread(self._fd, size, self._offset)
        self._offset += len(data)
        return data

    def _open_next(self) -> bool:
        full = sorted(number for number in self._full() if number > self._number)
        name = f"log.{full[0]}.jsonl" if full else self._live.name
        try:
            self._fd = os.open(self._live.with_name(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._offset = 0
        return True

    def _left_behind(self) -> bool:
        """Whether the file at hand is written to no more; then its number is known, or it has gone."""
        own = os.fstat(self._fd)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(own, os.stat(self._live)):
                return False
        for number in self._full():
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(own, os.stat(self._live.with_name(f"log.{number}.jsonl"))):
                    self._number = max(self._number, number)
                    return True
        return own.st_nlink == 0

    def _full(self) -> list[int]:
        try:
            names = os.listdir(self._live.parent)
        except FileNotFoundError:
            return []
        return [int(found[1]) for name in names if (found := _ROTATED.fullmatch(name))]

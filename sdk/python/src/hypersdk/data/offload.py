"""Which way plain bytes go: by copy_file_range alone, or read by one thread and written by another.

Where the file system shares blocks (XFS, Btrfs) or the server copies (NFS), copy_file_range costs next to nothing and
nothing beats it. Elsewhere it is one core moving pages at 3.5 GiB/s, and a reader and a writer on two cores move 4.6
(measured on ext4, 4 MiB pieces; ranges that are not page-aligned, as in VHD files, gain more). No system call tells
which it
is, so the first bytes are a trial.
"""

from __future__ import annotations

import time

_TRIAL_BYTES = 16 << 20
_OFFLOADED_BYTES_S = 6 << 30
"""Faster than memory moves here: the file system did not touch the bytes."""
_BUSY_SHARE = 0.5
"""A call that leaves the core idle for more than half of its time waits for somebody else who does the work."""


class Trial:
    """Measures the first copy_file_range calls of a copy. Its life: `begin`, `end` around each, until `over`; then
    `two_threads_are_better` stands. One thread."""

    def __init__(self) -> None:
        self._bytes = 0
        self._wall = self._cpu = 0.0
        self._since = (0.0, 0.0)

    @property
    def over(self) -> bool:
        return self._bytes >= _TRIAL_BYTES

    def begin(self) -> None:
        self._since = (time.perf_counter(), time.thread_time())

    def end(self, nbytes: int) -> None:
        wall, cpu = self._since
        self._wall += time.perf_counter() - wall
        self._cpu += time.thread_time() - cpu
        self._bytes += nbytes

    @property
    def two_threads_are_better(self) -> bool:
        return self._cpu > _BUSY_SHARE * self._wall and self._bytes < _OFFLOADED_BYTES_S * self._wall

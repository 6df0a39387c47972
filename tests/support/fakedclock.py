"""A daemon whose wall clock is set while it runs. A `sitecustomize` on its path gives it a `time.time` that adds what a
file says; the monotonic clock is left alone, as it is when a real clock is set. Its runners are started with a clean
environment and keep the machine's clock.

Not libfaketime: it intercepts the timed waits of threads too, and those of CPython's interpreter lock then spin for
seconds."""

from __future__ import annotations

import mmap
import time
from pathlib import Path

from .daemon import Daemon

DAY_S = 86400.0
NOON = 1_804_680_000.0
"""A Wednesday, 10 March 2027, UTC: no day, week, month or change of the clocks ends near it."""
_PATCH = """
import mmap, os, time
with open(os.environ["FAKED_CLOCK"], "rb") as file:
    ahead = memoryview(mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)).cast("d")
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + ahead[0]
time.time_ns = lambda: real_ns() + int(ahead[0] * 1e9)
"""


class FakedClock(Daemon):
    """A Daemon whose wall clock says NOON when this is made."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder, *flags)
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as file:
            self._ahead_s = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")
        self._path = folder / "faked"
        self._path.mkdir()
        (self._path / "sitecustomize.py").write_text(_PATCH)
        self.jump(NOON - time.time())

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | {"PYTHONPATH": str(self._path), "FAKED_CLOCK": str(self._file)}

    @property
    def now(self) -> float:
        """What its wall clock says."""
        return time.time() + self._ahead_s[0]

    def jump(self, seconds: float) -> None:
        """Set its wall clock so much forwards, or backwards."""
        self._ahead_s[0] += seconds

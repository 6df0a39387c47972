"""WriteBehind: the disk works while the copy goes on, instead of all at once in the final fsync.

A conversion of 1 GiB spends as long waiting for its fsync as copying, if the kernel starts writing only then. Nothing
becomes durable by this; only fsync promises that.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

_INTERVAL_S = 0.05
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h: start writing dirty pages, wait for none


class WriteBehind:
    """While the context is open, a thread asks the kernel every 50 ms to start writing what is dirty in the open file
    `fd` (sync_file_range(2)). Where the C library has no such call it does nothing. Ends before `fd` may be closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hypersdk-write-behind", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        if self._stop.wait(_INTERVAL_S):
            return  # a small copy does not pay for importing ctypes
        import ctypes

        call = getattr(ctypes.CDLL(None), "sync_file_range", None)
        if call is None:
            return
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        while call(self._fd, 0, 0, _SYNC_FILE_RANGE_WRITE) == 0 and not self._stop.wait(_INTERVAL_S):
            pass

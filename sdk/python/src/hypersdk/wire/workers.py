"""Workers: a bounded pool of daemon threads, started as they are needed and kept until the process ends.

Instead of concurrent.futures, which imports logging (6 ms) and joins its threads at exit: a plugin's call
that hangs must not keep a host from exiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """At most `limit` threads take jobs in order of arrival. A job must not raise."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._unfinished += 1
            if self._threads < min(self._limit, self._unfinished):
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            finally:
                with self._lock:
                    self._unfinished -= 1
            del job  # what it refers to must not live until the next one comes

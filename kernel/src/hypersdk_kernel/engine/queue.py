"""The order in which queued jobs start: higher priority first, then the older one. Pure."""

from __future__ import annotations

import heapq

from hypersdk_kernel.model.job import Job


class ReadyQueue:
    """Jobs that wait for room. `push`, `remove` and `pop` cost O(log n); a removed entry is dropped when it
    surfaces."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, str]] = []
        self._waiting: dict[str, tuple[int, float, str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._waiting

    def push(self, job: Job) -> None:
        """Add, or put in its new place."""
        key = (-job.priority, job.create_time, job.id)
        if self._waiting.get(job.id) != key:
            self._waiting[job.id] = key
            heapq.heappush(self._heap, key)

    def remove(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)

    def pop(self) -> str | None:
        """The id of the job that is next, or None."""
        while self._heap:
            key = heapq.heappop(self._heap)
            if self._waiting.get(key[2]) == key:
                del self._waiting[key[2]]
                return key[2]
        return None

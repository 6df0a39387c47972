"""Execution: what the dispatcher needs of whatever runs an attempt: a process of this machine, a place in a warm one, a
place elsewhere."""

from __future__ import annotations

from typing import Protocol

from hypersdk_kernel.model.job import Progress


class Execution(Protocol):
    """One attempt that runs. Commands may be lost and are wishes: what counts is the outcome."""

    job_id: str
    number: int
    paused: bool
    progress: Progress | None

    @property
    def pid(self) -> int: ...
    def cancel(self, reason: str) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def throttle(self, bytes_per_second: int) -> None: ...
    def kill(self) -> None: ...

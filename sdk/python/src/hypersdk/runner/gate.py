"""The gate: where a task waits while its job is paused and learns that it was cancelled."""

from __future__ import annotations

import threading

from hypersdk.errors import Cancelled


class Gate:
    """Open, paused, or cancelled for good. Thread-safe."""

    def __init__(self, *, paused: bool = False) -> None:
        self._changed = threading.Condition()
        self._paused = paused
        self._reason: str | None = None

    @property
    def cancelled(self) -> bool:
        return self._reason is not None

    def check(self) -> None:
        """Wait while paused; raise Cancelled once cancelled, also out of a pause."""
        with self._changed:
            self._changed.wait_for(lambda: not self._paused or self._reason is not None)
            if self._reason is not None:
                raise Cancelled(f"the job was cancelled: {self._reason}")

    def cancel(self, reason: str) -> bool:
        """False when it was cancelled before; the first reason stands."""
        with self._changed:
            if self._reason is not None:
                return False
            self._reason = reason or "no reason given"
            self._changed.notify_all()
            return True

    def pause(self) -> bool:
        """False when it was paused already."""
        return self._set_paused(True)

    def resume(self) -> bool:
        """False when it was not paused."""
        return self._set_paused(False)

    def _set_paused(self, paused: bool) -> bool:
        with self._changed:
            if self._paused is paused:
                return False
            self._paused = paused
            self._changed.notify_all()
            return True

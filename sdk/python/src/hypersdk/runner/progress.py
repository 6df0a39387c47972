"""Progress, thinned out: at most ten a second to the kernel, one every two seconds to the journal."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.task import Progress
from hypersdk.runner.journal import Journal
from hypersdk.wire.redact import Redactor

PUBLISH_S = 0.1
JOURNAL_S = 2.0
MAX_DETAILS_BYTES = 64 << 10
MAX_MESSAGE_CHARS = 4096
_COUNTS = ("bytes_done", "bytes_total", "bytes_read", "bytes_written")


class ProgressMeter:
    """Takes what a task tells as often as it likes. `published` is the last one for the kernel, `version`
    counts them; both change under `journal.changed`, whose waiters are notified."""

    def __init__(self, journal: Journal, redactor: Redactor, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._redactor = redactor
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Progress | None = None
        self._journaled: Progress | None = None
        self._phase = ""
        self._publish_at = self._journal_at = float("-inf")
        self.version = 0
        self.published: dict[str, Any] = {}

    def update(self, progress: Progress) -> None:
        """A new phase is published at once, so that it never waits for the next update."""
        with self._lock:
            self._last = progress
            now = self._clock()
            if now >= self._publish_at or progress.phase != self._phase:
                self._publish_at, self._phase = now + PUBLISH_S, progress.phase
                self._publish(progress)
            if now < self._journal_at:
                return
            self._journal_at = now + JOURNAL_S
        self._write(progress)

    def flush(self) -> None:
        """Journal the last one if it was thinned out."""
        with self._lock:
            last = self._last
        if last is not None and last is not self._journaled:
            self._publish(last)
            self._write(last)

    def _publish(self, progress: Progress) -> None:
        published = self._redactor.value(to_json(progress))
        with self._journal.changed:
            self.published = published
            self.version += 1
            self._journal.changed.notify_all()

    def _write(self, progress: Progress) -> None:
        self._journal.append("progress", to_json(progress))
        self._journaled = progress


def to_json(progress: Progress) -> dict[str, Any]:
    """As the protocol has it. Raises InvalidArgument (PROGRESS_INVALID) for what is no number or no JSON."""
    try:
        counts = {name: int(getattr(progress, name)) for name in _COUNTS}
        details = json.dumps(dict(progress.details), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidArgument(f"progress that is not JSON: {exc}", reason="PROGRESS_INVALID") from exc
    if len(details) > MAX_DETAILS_BYTES:
        text = f"progress details of {len(details)} bytes; at most {MAX_DETAILS_BYTES} are sent"
        raise InvalidArgument(text, reason="PROGRESS_INVALID")
    message = str(progress.message)[:MAX_MESSAGE_CHARS]
    return {"phase": str(progress.phase), **counts, "message": message, "details": json.loads(details)}

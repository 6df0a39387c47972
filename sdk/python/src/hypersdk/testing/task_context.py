"""LocalTaskContext: what a runner gives a task, here in this process, with everything that can go wrong on
demand.

An attempt is one context. `next_attempt()` makes the context of the following one with what a runner keeps:
the scratch directory, the last checkpoint, the resources that were acquired and not released.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypersdk.data.images import FormatRegistry, open_image
from hypersdk.data.source import BlockSource
from hypersdk.errors import Cancelled, HyperError, NotFound
from hypersdk.plugin import ImageFormat, Progress, Provider, Storage, TaskContext

T = TypeVar("T")
_MAX_CHECKPOINT = 16 << 20


class Killed(BaseException):
    """The runner died here, as by SIGKILL. Not an Exception, so that no `except Exception` of a task
    survives it; a task's `finally` blocks run, unlike in a real death, so they must not undo what a
    checkpoint promises."""


class LocalTaskContext(TaskContext):
    """Thread-safe.

    kill_after_checks       raise Killed at that call of `check`, counted from 1; 0 never
    kill_after_checkpoints  raise Killed right after that `save_checkpoint`; 0 never
    on_check                called at every `check`, for tests that cancel or pause in the middle
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        scratch_dir: Path,
        *,
        providers: Mapping[str, Provider] | None = None,
        storages: Mapping[str, Storage] | None = None,
        job: str = "jobs/test",
        attempt: int = 1,
        checkpoint: Mapping[str, Any] | None = None,
        outstanding: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.job = job
        self.attempt = attempt
        self.spec = spec
        self.scratch_dir = scratch_dir
        self.checkpoint = checkpoint
        self.kill_after_checks = 0
        self.kill_after_checkpoints = 0
        self.on_check: Callable[[], None] | None = None
        self.reports: list[Progress] = []
        self.logged: list[tuple[str, str, dict[str, Any]]] = []
        self.throttled_bytes = 0
        self.checkpoints_saved = 0
        self.checks = 0
        self.held: dict[str, dict[str, Any]] = {}
        self._providers = dict(providers or {})
        self._storages = dict(storages or {})
        self._saved = checkpoint
        self._earlier = {key: dict(record) for key, record in (outstanding or {}).items()}
        self._registry = FormatRegistry.installed()
        self._cancelled = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._lock = threading.Lock()

    def next_attempt(self) -> LocalTaskContext:
        """The context that the following attempt of the same job would get."""
        return LocalTaskContext(
            self.spec, self.scratch_dir, providers=self._providers, storages=self._storages, job=self.job,
            attempt=self.attempt + 1, checkpoint=self._saved, outstanding={**self._earlier, **self.held},
        )  # fmt: skip

    def cancel(self) -> None:
        self._cancelled.set()
        self._running.set()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def provider(self, connection: str) -> Provider:
        return _granted(self._providers, connection)

    def storage(self, connection: str) -> Storage:
        return _granted(self._storages, connection)

    def component(self, connection: str) -> str:
        if connection in self._providers:
            return "provider/test"
        _granted(self._storages, connection)
        return "storage/test"

    def image_format(self, name: str) -> ImageFormat:
        return self._registry.get(name)

    def image_formats(self) -> Sequence[ImageFormat]:
        found = []
        for name in self._registry.names():
            try:
                found.append(self._registry.get(name))
            except HyperError as exc:  # as in a runner, one broken plugin does not hide the others
                self.log("format_skipped", "warning", format=name, error=exc.message)
        return found

    def open_image(self, path: Path, format_name: str = "", options: Mapping[str, str] | None = None) -> BlockSource:
        return open_image(path, registry=self._registry, format_name=format_name, options=options)

    def progress(self, progress: Progress) -> None:
        with self._lock:
            self.reports.append(progress)

    def check(self) -> None:
        with self._lock:
            self.checks += 1
            killed = self.checks == self.kill_after_checks
        if killed:
            raise Killed
        if self.on_check is not None:
            self.on_check()
        self._running.wait()
        if self._cancelled.is_set():
            raise Cancelled(f"{self.job} was cancelled")

    def throttle(self, nbytes: int) -> None:
        with self._lock:
            self.throttled_bytes += nbytes

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        text = json.dumps(state)
        assert len(text) <= _MAX_CHECKPOINT, "a checkpoint may have 16 MiB at most"
        self._saved = json.loads(text)
        self.checkpoints_saved += 1
        if self.checkpoints_saved == self.kill_after_checkpoints:
            raise Killed

    def acquired(self, resource_id: str, component: str, record: Mapping[str, Any]) -> None:
        with self._lock:
            self.held[resource_id] = {"component": component, "record": json.loads(json.dumps(record))}

    def released(self, resource_id: str) -> None:
        with self._lock:
            self.held.pop(resource_id, None)
            self._earlier.pop(resource_id, None)

    def outstanding(self) -> Mapping[str, Mapping[str, Any]]:
        return {key: entry["record"] for key, entry in self._earlier.items()}

    def unreleased(self) -> set[str]:
        """Resource ids of this and earlier attempts that nobody released."""
        return {*self.held, *self._earlier}

    def log(self, event: str, /, level: str = "info", **fields: Any) -> None:
        with self._lock:
            self.logged.append((event, level, dict(fields)))


def _granted(found: Mapping[str, T], connection: str) -> T:
    if connection not in found:
        raise NotFound(f"{connection!r} is not granted to this job", reason="CONNECTION_NOT_GRANTED")
    return found[connection]

"""The TaskContext of a runner: each method hands on to the part that does it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.plugin.image_format import ImageFormat
from hypersdk.plugin.provider import Provider
from hypersdk.plugin.storage import Storage
from hypersdk.plugin.task import Progress, TaskContext
from hypersdk.runner.checkpoint import CheckpointStore
from hypersdk.runner.components import Components
from hypersdk.runner.gate import Gate
from hypersdk.runner.images import open_source
from hypersdk.runner.journal import Journal
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.progress import ProgressMeter
from hypersdk.runner.resources import Resources
from hypersdk.runner.spec import RunnerSpec
from hypersdk.runner.throttle import TokenBucket

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource


class RunnerContext(TaskContext):
    """See TaskContext for what each method promises."""

    def __init__(
        self,
        spec: RunnerSpec,
        *,
        checkpoint: Mapping[str, Any] | None,
        store: CheckpointStore,
        journal: Journal,
        log: AttemptLog,
        components: Components,
        resources: Resources,
        meter: ProgressMeter,
        gate: Gate,
        bucket: TokenBucket,
    ) -> None:
        self.job = spec.job
        self.attempt = spec.attempt
        self.spec = spec.spec
        self.scratch_dir = spec.job_dir / "scratch"
        self.checkpoint = checkpoint
        self._store = store
        self._save_lock = threading.Lock()
        self._journal = journal
        self._log = log
        self._components = components
        self._resources = resources
        self._meter = meter
        self._gate = gate
        self._bucket = bucket

    def provider(self, connection: str) -> Provider:
        return self._components.provider(connection)

    def storage(self, connection: str) -> Storage:
        return self._components.storage(connection)

    def component(self, connection: str) -> str:
        return self._components.component_of(connection)

    def image_format(self, name: str) -> ImageFormat:
        return self._components.image_format(name)

    def image_formats(self) -> Sequence[ImageFormat]:
        return self._components.image_formats()

    def open_image(self, path: Path, format_name: str = "", options: Mapping[str, str] | None = None) -> BlockSource:
        named = self.image_format(format_name) if format_name else None
        return open_source(path, options, named, self.image_formats)

    def progress(self, progress: Progress) -> None:
        self._meter.update(progress)

    def check(self) -> None:
        self._gate.check()

    def throttle(self, nbytes: int) -> None:
        self._bucket.take(nbytes)

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        with self._save_lock:
            saved = self._store.save(state)
            self._journal.append("checkpointed", {"bytes": saved})

    def acquired(self, resource_id: str, component: str, record: Mapping[str, Any]) -> None:
        self._resources.acquired(resource_id, component, record)

    def released(self, resource_id: str) -> None:
        self._resources.released(resource_id)

    def outstanding(self) -> Mapping[str, Mapping[str, Any]]:
        return {resource_id: held["record"] for resource_id, held in self._resources.earlier().items()}

    def log(self, event: str, /, level: str = "info", **fields: Any) -> None:
        self._log.write(event, level, fields)

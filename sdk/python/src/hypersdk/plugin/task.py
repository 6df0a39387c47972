"""Task: the contract of `hypersdk.task` plugins: a job type, and what a runner gives it to work with.

A task runs in a runner, a process of its own for one attempt. It may be killed at any instant; the next attempt gets
the
last saved checkpoint and the list of resources that were acquired and not released. So a task acquires, then does,
then
publishes, and every step can be repeated.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.image_format import ImageFormat
    from hypersdk.plugin.provider import Provider
    from hypersdk.plugin.storage import Storage


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is. -1 where unknown.

    bytes_done/total   of the virtual disk(s), ZERO extents counted as done when passed
    bytes_read         from the source, really moved
    bytes_written      to the target, really moved (after compression, holes not counted)
    """

    phase: str = ""
    bytes_done: int = 0
    bytes_total: int = -1
    bytes_read: int = 0
    bytes_written: int = 0
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class TaskContext(abc.ABC):
    """What a runner gives to a task. Thread-safe."""

    job: str
    """Resource name, `jobs/{job}`."""
    attempt: int
    """1 for the first."""
    spec: Mapping[str, Any]
    """`Job.spec`, which has passed the task's spec schema."""
    scratch_dir: Path
    """Private to the job, kept between its attempts, deleted when the job ends."""
    checkpoint: Mapping[str, Any] | None
    """What the last `save_checkpoint` of any earlier attempt stored; None at first."""

    @abc.abstractmethod
    def provider(self, connection: str) -> Provider:
        """The configured provider of `connections/{connection}`, opened once per runner. Raises NotFound
        (CONNECTION_NOT_GRANTED) when the spec did not name it in a field its schema marks as a connection."""

    @abc.abstractmethod
    def storage(self, connection: str) -> Storage:
        """The configured storage of a connection, as `provider`."""

    @abc.abstractmethod
    def component(self, connection: str) -> str:
        """The component behind a connection (`storage/local`), as `acquired` wants it."""

    @abc.abstractmethod
    def image_format(self, name: str) -> ImageFormat:
        """An installed format by name or alias. Raises NotFound (FORMAT_UNKNOWN) that lists what is installed."""

    @abc.abstractmethod
    def image_formats(self) -> Sequence[ImageFormat]:
        """All installed formats, for probing."""

    @abc.abstractmethod
    def open_image(self, path: Path, format_name: str = "", options: Mapping[str, str] | None = None) -> BlockSource:
        """Open a local image file, probing its format when none is named."""

    @abc.abstractmethod
    def progress(self, progress: Progress) -> None:
        """Tell how far it is. Cheap; call as often as you like, it is thinned out."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raises Cancelled when the job was cancelled; waits while it is paused. Call between pieces of work."""

    @abc.abstractmethod
    def throttle(self, nbytes: int) -> None:
        """Account for `nbytes` moved; sleeps as the job's bandwidth limit demands (which may change while it
        runs)."""

    @abc.abstractmethod
    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Durable when it returns. Replaces the former one. JSON-able, at most 16 MiB."""

    @abc.abstractmethod
    def acquired(self, resource_id: str, component: str, record: Mapping[str, Any]) -> None:
        """Tell of something that outlives the runner (a snapshot, an upload, a partial file) *before* it can leak.
        `component` (`provider/vsphere`) names whose `cleanup(record)` is called if the job ends without
        `released(resource_id)`; put the connection's name under `record["connection"]`."""

    @abc.abstractmethod
    def released(self, resource_id: str) -> None:
        """It is gone or has become the job's result."""

    @abc.abstractmethod
    def outstanding(self) -> Mapping[str, Mapping[str, Any]]:
        """Resources of earlier attempts that were not released: resource_id → record."""

    @abc.abstractmethod
    def log(self, event: str, /, level: str = "info", **fields: Any) -> None:
        """A structured line of the attempt's log: `event` is `noun_verbed`; levels debug, info, warning, error."""


class Task(abc.ABC):
    """A job type."""

    @abc.abstractmethod
    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """(R) Do the work; return the job's result, JSON-able, at most 1 MiB. Errors of the tree say by `retryable`
        whether another attempt makes sense; an exception outside the tree is not retried."""

    def plan(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """(C) What `run` would do, with estimates, without effect; for `--dry-run`. May be empty."""
        return {}

    def cleanup(self, record: Mapping[str, Any]) -> None:
        """(R) Release what a dead runner told `context.acquired` under this task's own component. Idempotent."""

"""ExportState: what an export remembers between attempts, disk by disk, saved whole at every change.

stage        meaning                                                     an attempt that finds it …
(none)       nothing was done                                            begins
transfer     an ImageTransfer is on its way (`transfer`: its state)      goes on with it
publish      the image is verified (`facts`), its object may be there    publishes, or finds it published
committed    the object is there (`etag`)                                checks that it still is
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypersdk.plugin import TaskContext

_VERSION = 1


class ExportState:
    """Belongs to one attempt. Not thread-safe."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        saved = context.checkpoint or {}
        known = saved.get("version") == _VERSION
        self._disks: dict[str, dict[str, Any]] = (
            {k: dict(v) for k, v in saved.get("disks", {}).items()} if known else {}
        )
        self.started = str(saved.get("started", "")) if known else ""

    def begin(self, started: str) -> None:
        """Remember when the first attempt began."""
        self.started = self.started or started

    def disk(self, disk_id: str) -> Mapping[str, Any]:
        """What is known of a disk; empty for a fresh one."""
        return self._disks.get(disk_id, {})

    def save(self, disk_id: str, **fields: Any) -> None:
        """Replace what is known of a disk, durably."""
        self._disks[disk_id] = fields
        self._write()

    def forget(self, disk_id: str) -> None:
        """The disk begins again."""
        if self._disks.pop(disk_id, None) is not None:
            self._write()

    def _write(self) -> None:
        self._context.save_checkpoint({"version": _VERSION, "started": self.started, "disks": self._disks})

"""The progress of a whole export, made from the progress of its disks."""

from __future__ import annotations

from hypersdk.data.pipeline import CopyProgress
from hypersdk.plugin import Progress, TaskContext


class ExportProgress:
    """`bytes_total` of all disks together. `bytes_done` never goes back in an attempt: verification and
    upload show in `phase` and `details`, because their bytes were counted when they were copied."""

    def __init__(self, context: TaskContext, bytes_total: int) -> None:
        self._context = context
        self._total = bytes_total
        self._before = 0
        self._read_before = 0
        self._written_before = 0
        self._current = CopyProgress(0, 0, 0, 0)

    def copying(self, disk_id: str, progress: CopyProgress) -> None:
        self._current = progress
        self._tell(f"copying {disk_id}")

    def doing(self, phase: str, disk_id: str, offset: int, total: int) -> None:
        """Another pass over the disk's bytes, such as "verifying"."""
        self._tell(f"{phase} {disk_id}", {"offset": offset, "total": total})

    def disk_done(self, size: int) -> None:
        self._before += size
        self._read_before += self._current.bytes_read
        self._written_before += self._current.bytes_written
        self._current = CopyProgress(0, 0, 0, 0)

    @property
    def bytes_read(self) -> int:
        return self._read_before + self._current.bytes_read

    @property
    def bytes_written(self) -> int:
        return self._written_before + self._current.bytes_written

    def _tell(self, phase: str, details: dict[str, int] | None = None) -> None:
        self._context.progress(
            Progress(
                phase=phase,
                bytes_done=self._before + self._current.offset,
                bytes_total=self._total,
                bytes_read=self.bytes_read,
                bytes_written=self.bytes_written,
                details=details or {},
            )
        )

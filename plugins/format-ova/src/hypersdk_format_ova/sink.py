"""OvaSink: a package with one disk, written in one pass; see `layout`.

The disk is a streamOptimized VMDK, which its own sink appends to a window of the file and never touches again, so it is
hashed on its way. After a resume the part that was there already is read again for that.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any

from hypersdk.data.filters.forward import ForwardingSink
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf import manifest, tar
from hypersdk.data.sink import Buffer
from hypersdk.errors import Aborted, InvalidArgument

from hypersdk_format_ova.layout import Layout, disk_format, disk_options
from hypersdk_format_ova.options import CreateOptions


class OvaSink(ForwardingSink):
    """The life of a BlockSink. `resume`: what `checkpoint` returned."""

    def __init__(self, file: ImageFile, size: int, options: CreateOptions, resume: Mapping[str, Any] | None) -> None:
        self._file = file
        self._layout = Layout(options, size)
        inner_state = None if resume is None else _inner_state(file, self._layout, resume)
        self._disk = _AppendedPart(file, self._layout.disk_start, self._layout.disk_name, fresh=resume is None)
        try:
            if resume is None:
                self._write_head(0)
            super().__init__(disk_format().create(self._disk, size, disk_options(options), inner_state))
        except BaseException:
            self._disk.close()
            raise

    def checkpoint(self) -> dict[str, Any] | None:
        disk = self._inner.checkpoint()
        layout = self._layout
        return None if disk is None else {"disk_name": layout.disk_name, "disk_start": layout.disk_start, "disk": disk}

    def finish(self) -> dict[str, Any]:
        """The package is complete and synced when it returns."""
        layout, file = self._layout, self._file
        facts = self._inner.finish()
        size = self._disk.size
        disk_digest = self._disk.sha256()
        descriptor = self._write_head(size)
        digests = (
            manifest.Digest(layout.descriptor_name, "SHA256", hashlib.sha256(descriptor).hexdigest()),
            manifest.Digest(layout.disk_name, "SHA256", disk_digest),
        )
        text = manifest.render(digests)
        tail = tar.padding(size) + _header(layout.manifest_name, len(text)) + text + tar.padding(len(text)) + tar.END
        file.pwrite(layout.disk_start + size, tail)
        file.truncate(layout.disk_start + size + len(tail))
        file.datasync()
        self._disk.close()
        return {**facts, "file_size": file.size, "disk_sha256": disk_digest}

    def abort(self) -> None:
        super().abort()
        self._disk.close()

    def _write_head(self, file_bytes: int) -> bytes:
        """All that goes before the disk, whose size is 0 until it is known."""
        layout = self._layout
        descriptor = layout.descriptor(file_bytes)
        head = _header(layout.descriptor_name, len(descriptor)) + descriptor + _header(layout.disk_name, file_bytes)
        self._file.pwrite(0, head)
        return descriptor


class _AppendedPart(ImageFile):
    """The window from `start` to the end of `file`, hashed while it is appended to."""

    def __init__(self, file: ImageFile, start: int, name: str, *, fresh: bool) -> None:
        super().__init__(os.dup(file.fileno()), file.path.with_name(name), base=file.base + start, writable=True)
        self.durable = file.durable
        self._is_part = True
        self._hashed = 0 if fresh else -1
        self._digest = hashlib.sha256()

    def pwrite(self, offset: int, data: Buffer) -> None:
        super().pwrite(offset, data)
        if offset == self._hashed:
            self._digest.update(data)
            self._hashed += memoryview(data).nbytes
        elif offset < self._hashed:
            self._hashed = -1  # something was written twice: the digest is of no use

    def sha256(self) -> str:
        if self._hashed == self.size:
            return self._digest.hexdigest()
        return manifest.hash_range(self, 0, self.size)


def _header(name: str, size: int) -> bytes:
    return tar.header(name, size, mtime=int(time.time()))


def _inner_state(file: ImageFile, layout: Layout, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The disk's own part of a checkpoint. Raises Aborted (RESUME_MISMATCH), InvalidArgument (RESUME_STATE_INVALID)."""
    disk = state.get("disk")
    if not isinstance(disk, Mapping):
        raise InvalidArgument("the checkpoint has no state of the disk", reason="RESUME_STATE_INVALID")
    same = state.get("disk_name") == layout.disk_name and state.get("disk_start") == layout.disk_start
    if not same or file.size < layout.disk_start:
        raise Aborted(
            f"{file.path.name} cannot be continued: the checkpoint is of another package; delete the partial file and "
            "start again",
            reason="RESUME_MISMATCH",
        )
    return disk

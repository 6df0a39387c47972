"""Opening a machine's disk: a whole image file, a window of an archive, or a disk that has no file yet.

Imported only in a runner: it needs `hypersdk.data`, which listing machines does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.names import printable
from hypersdk.data.source import BlockSource
from hypersdk.errors import InvalidArgument, OutOfRange
from hypersdk.plugin import TaskContext
from hypersdk.plugin.image_format import PROBE_BYTES

from hypersdk_provider_directory.package import Window

_TAIL_BYTES = 512


def open_window(window: Window, format_name: str, context: TaskContext) -> BlockSource:
    """The image in the window as a source. Without `format_name` the content decides."""
    if window.length < 0:
        return context.open_image(window.path, format_name)
    file = ImageFile.open(window.path, base=window.base, length=window.length, follow=False)
    try:
        if format_name:
            return context.image_format(format_name).open(file)
        head = file.pread(0, min(PROBE_BYTES, file.size))
        tail_bytes = min(_TAIL_BYTES, file.size)
        tail = file.pread(file.size - tail_bytes, tail_bytes)
        best = max(context.image_formats(), key=lambda f: f.probe(head, tail, file.size), default=None)
        if best is None or best.probe(head, tail, file.size) == 0:
            raise InvalidArgument(
                f"no installed format knows the image at byte {window.base} of {printable(window.path.name)}",
                reason="FORMAT_UNRECOGNISED",
            )
        return best.open(file)
    except BaseException:
        file.close()
        raise


class BlankSource(BlockSource):
    """A disk that a package declares without a file: all zeros."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._size if length is None else offset + length
        self._check(offset, end)
        if offset < end:
            yield Extent(offset, end - offset, ExtentKind.ZERO)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        self._check(offset, offset + len(buffer))
        buffer[:] = bytes(len(buffer))

    def info(self) -> dict[str, Any]:
        return {"format": "blank", "virtual_size": self._size}

    def _check(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self._size:
            raise OutOfRange(f"[{offset}, {end}) is not inside a disk of {self._size} bytes", reason="OFFSET_PAST_END")

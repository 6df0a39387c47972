"""Writes monolithicFlat, twoGbMaxExtentSparse and twoGbMaxExtentFlat: extents in files of their own, in order, then the
descriptor that names them (VDF 5.0, "The Descriptor File").

One extent is open at a time, so a disk of any number of them needs two descriptors of the process. An extent that is
left behind is complete and synced; the main file stays empty until all are, so a cut is never taken for an image. How
an extent is stored is its own sink's affair (`sparse_sink`, hypersdk.data.flatsink).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hypersdk.data.extent import FileRange
from hypersdk.data.flatsink import FlatSink, resume_flat
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import Aborted, FailedPrecondition, InvalidArgument, OutOfRange

from hypersdk_format_vmdk.grain_sink import resume_number
from hypersdk_format_vmdk.identity import plain_name, render_descriptor
from hypersdk_format_vmdk.layout import MAX_CAPACITY, SECTOR
from hypersdk_format_vmdk.options import CreateOptions
from hypersdk_format_vmdk.sparse_sink import SparseSink

MAX_SPLIT = 512
"""Extents of a split disk that we write: 1 TiB. A reader holds all their files open, and most systems allow a process
1024 open files."""


class Layout(NamedTuple):
    """How a subformat names and fills its extents. `span`: bytes of each but the last."""

    kind: str
    suffix: str
    span: int


LAYOUTS = {
    "monolithicFlat": Layout("FLAT", "-flat", MAX_CAPACITY),
    "twoGbMaxExtentSparse": Layout("SPARSE", "-s{number:03d}", 2 << 30),
    "twoGbMaxExtentFlat": Layout("FLAT", "-f{number:03d}", 2 << 30),
}


class FlatPart(FlatSink):
    """A flat extent: the bytes alone, in whole sectors."""

    def __init__(self, file: ImageFile, size: int, *, written_end: int = 0) -> None:
        super().__init__(file, size, start=0, written_end=written_end)

    def _seal(self) -> None:
        self._file.truncate(-(-self._size // SECTOR) * SECTOR)


class SplitSink(BlockSink):
    """Made on an empty file, or to go on from `state`; then the life of a BlockSink."""

    def __init__(
        self, file: ImageFile, size: int, options: CreateOptions, state: Mapping[str, Any] | None = None
    ) -> None:
        """Raises Aborted (RESUME_MISMATCH), InvalidArgument (IMAGE_SIZE_INVALID, RESUME_STATE_INVALID) and what
        ImageFile.create_sibling raises."""
        self._file = file
        self._size = size
        self._options = options
        self._layout = LAYOUTS[options.subformat]
        self._count = -(-size // self._layout.span)
        if self._count > MAX_SPLIT:
            raise InvalidArgument(
                f"subformat {options.subformat} is written for disks of up to {MAX_SPLIT * self._layout.span} bytes, "
                f"not {size}; use monolithicFlat or monolithicSparse",
                reason="IMAGE_SIZE_INVALID",
            )
        self._names = _extent_names(file.path, self._layout, self._count)
        self._closed = False
        self._allocated = 0
        self._index = 0
        file.truncate(0)
        if state is None:
            self._begin(0)
        else:
            self._resume(state)

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return self._part.granularity

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        for start, length, at in self._pieces(offset, len(view)):
            self._part.write(start, view[at : at + length])

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        for start, length, at in self._pieces(offset, source.length):
            self._part.write_file_range(start, FileRange(source.fd, source.file_offset + at, length))
        return True

    def checkpoint(self) -> dict[str, Any]:
        return {
            "subformat": self._options.subformat,
            "size": self._size,
            "extent": self._index,
            "allocated": self._allocated,
            "part": self._part.checkpoint(),
        }

    def finish(self) -> dict[str, Any]:
        self._check(0, 0)
        self._enter(self._count - 1)
        self._end_part()
        lines = []
        for number, name in enumerate(self._names):
            line = f'RW {-(-self._part_size(number) // SECTOR)} {self._layout.kind} "{name}"'
            lines.append(f"{line} 0" if self._layout.kind == "FLAT" else line)
        text = render_descriptor(lines, -(-self._size // SECTOR), self._options)
        self._file.pwrite(0, text)
        self._file.datasync()
        self._closed = True
        return {
            "subformat": self._options.subformat,
            "virtual_size": self._size,
            "allocated_bytes": self._allocated,
            "file_size": len(text),
            "siblings": list(self._names),
        }

    def abort(self) -> None:
        self._closed = True
        self._part.abort()

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Parts of [offset, offset+length) as (offset in its extent, length, offset in the range); the extent of each
        is the open one when it is given."""
        self._check(offset, length)
        at = 0
        while at < length:
            index, start = divmod(offset + at, self._layout.span)
            count = min(length - at, self._layout.span - start)
            self._enter(index)
            yield start, count, at
            at += count

    def _check(self, offset: int, length: int) -> None:
        if self._closed:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")
        if offset < 0 or offset + length > self._size:
            raise OutOfRange(f"bytes {offset} to {offset + length} are not all in a disk of {self._size} bytes")

    def _enter(self, index: int) -> None:
        """Open extent `index`; those before it are completed, also where nothing was written to them."""
        if index < self._index:
            raise FailedPrecondition(
                f"extent {index} comes after extent {self._index}, but this image is written in ascending order",
                reason="WRITE_OUT_OF_ORDER",
            )
        while self._index < index:
            self._end_part()
            self._begin(self._index + 1)

    def _begin(self, index: int) -> None:
        self._index = index
        self._open = self._file.create_sibling(self._names[index])
        size = self._part_size(index)
        self._part: BlockSink = (
            FlatPart(self._open, size)
            if self._layout.kind == "FLAT"
            else SparseSink.create(self._open, size, self._options, embedded=False)
        )

    def _end_part(self) -> None:
        self._allocated += int(self._part.finish()["allocated_bytes"])
        self._open.close()

    def _part_size(self, index: int) -> int:
        return min(self._layout.span, self._size - index * self._layout.span)

    def _resume(self, state: Mapping[str, Any]) -> None:
        part = state.get("part")
        if (state.get("subformat"), state.get("size")) != (self._options.subformat, self._size):
            raise Aborted(
                f"{self._file.path.name} cannot be continued: the checkpoint is of another disk or subformat; delete "
                "the partial files and start again",
                reason="RESUME_MISMATCH",
            )
        if not isinstance(part, dict):
            raise InvalidArgument("the checkpoint has no state of an extent", reason="RESUME_STATE_INVALID")
        self._index = resume_number(state, "extent", self._count - 1)
        self._allocated = resume_number(state, "allocated", MAX_CAPACITY)
        for name in self._names[: self._index]:
            self._file.create_sibling(name, resume=True).close()
        self._open = self._file.create_sibling(self._names[self._index], resume=True)
        size = self._part_size(self._index)
        if self._layout.kind == "FLAT":
            self._part = FlatPart(
                self._open, size, written_end=resume_flat(self._open, part, size=size, start=0)
            )
        else:
            self._part = SparseSink.resume(self._open, size, part)


def _extent_names(path: Path, layout: Layout, count: int) -> list[str]:
    """As qemu-img and VMware name them: `x-flat.vmdk`, `x-s001.vmdk`."""
    name = Path(plain_name(path))
    return [f"{name.stem}{layout.suffix.format(number=number)}{name.suffix}" for number in range(1, count + 1)]

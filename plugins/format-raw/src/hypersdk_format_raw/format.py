"""RawFormat: opens and creates raw images. Any file is a raw image, so it is the last to claim one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.data.extent import ExtentKind
from hypersdk.data.formatoptions import FormatOptions
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.image_format import ImageFormat

from hypersdk_format_raw.sink import RawSink
from hypersdk_format_raw.source import RawSource

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

_PREALLOCATION = ("off", "falloc")
_BLOCK = 4096
_OPEN_OPTIONS = ("chain",)


class RawFormat(ImageFormat):
    """A disk's bytes in a plain file. Stateless."""

    name = "raw"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002  raw looks at nothing
        return 1

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        FormatOptions(self.name, options, _OPEN_OPTIONS, doing="reading")
        return RawSource(file)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        given = FormatOptions(self.name, options, self.create_options(), doing="creating")
        preallocation = given.one_of("preallocation", _PREALLOCATION, "off")
        if size < 0:
            raise InvalidArgument(f"a raw image cannot have {size} bytes", reason="SIZE_INVALID")
        end = 0 if resume is None else _resume_point(resume, size, file)
        if file.size > end:  # drop what was written after the checkpoint
            file.truncate(end)
        # never a fresh file to 0: ext4 takes that for a replacement and writes it all out when it is closed
        file.truncate(size)
        if preallocation == "falloc" and size:
            os.posix_fallocate(file.fileno(), file.base, size)
        return RawSink(file, size, written_end=end)

    def create_options(self) -> Mapping[str, str]:
        return {"preallocation": "off: a sparse file; falloc: reserve the blocks at once (default off)"}

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        if (options or {}).get("preallocation") == "falloc":
            return source.size
        # File systems allocate whole blocks, also where an extent begins or ends inside one.
        data = [e for e in source.extents() if e.kind == ExtentKind.DATA]
        return sum(-(-e.end // _BLOCK) - e.offset // _BLOCK for e in data) * _BLOCK


def _resume_point(state: Mapping[str, Any], size: int, file: ImageFile) -> int:
    """The end of what is durable, bytes. The state comes from a file or database, so it is checked."""
    end, of_size = state.get("written_end"), state.get("size")
    if not isinstance(end, int) or of_size != size or not 0 <= end <= size or end > file.size:
        raise FailedPrecondition(
            f"{file.path.name} cannot be resumed from this checkpoint ({end!r} of {of_size!r} bytes; the disk has "
            f"{size}, the file {file.size}); start afresh",
            reason="RESUME_STATE_INVALID",
        )
    return end

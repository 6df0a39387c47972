"""RawFormat: opens and creates raw images. Any file is a raw image, so it is the last to claim one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.data.extent import ExtentKind
from hypersdk.errors import FailedPrecondition, FieldViolation, InvalidArgument
from hypersdk.plugin.image_format import ImageFormat

from hypersdk_format_raw.sink import RawSink
from hypersdk_format_raw.source import RawSource

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

_PREALLOCATION = ("off", "falloc")
_BLOCK = 4096
_COMMON_OPEN_OPTIONS = frozenset({"chain"})


class RawFormat(ImageFormat):
    """A disk's bytes in a plain file. Stateless."""

    name = "raw"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002  raw looks at nothing
        return 1

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        _known(options or {}, _COMMON_OPEN_OPTIONS, doing="opening")
        return RawSource(file)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        known = _known(options or {}, frozenset(self.create_options()), doing="creating")
        preallocation = known.get("preallocation", "off")
        if preallocation not in _PREALLOCATION:
            raise _invalid("preallocation", f"must be one of {', '.join(_PREALLOCATION)}, not {preallocation[:40]!r}")
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


def _known(options: Mapping[str, str], known: frozenset[str], *, doing: str) -> Mapping[str, str]:
    for name in options:
        if name not in known:
            raise InvalidArgument(
                f"raw knows no option {name[:80]!r} for {doing}; it knows {', '.join(sorted(known)) or 'none'}",
                reason="OPTION_UNKNOWN",
                violations=(FieldViolation(f"options.{name[:80]}", "is not an option of raw"),),
            )
    return options


def _invalid(name: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"raw: option {name} {problem}",
        reason="OPTION_INVALID",
        violations=(FieldViolation(f"options.{name}", problem),),
    )


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

"""Which format a local image file is of, and opening it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.image_format import PROBE_BYTES, ImageFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource

_TAIL_BYTES = 512


def probe(file: ImageFile, formats: Sequence[ImageFormat]) -> ImageFormat:
    """The format that claims the file most surely. Raises InvalidArgument (FORMAT_UNRECOGNISED)."""
    size = file.size
    head = file.pread(0, min(size, PROBE_BYTES))
    tail_bytes = min(size, _TAIL_BYTES)
    tail = file.pread(size - tail_bytes, tail_bytes)
    scores = {image_format.name: image_format.probe(head, tail, size) for image_format in formats}
    best = max(scores.values(), default=0)
    if best <= 0:
        raise InvalidArgument(
            f"{file.path} is of none of the formats {', '.join(sorted(scores)) or '(none installed)'}",
            reason="FORMAT_UNRECOGNISED",
        )
    return next(image_format for image_format in formats if scores[image_format.name] == best)


def open_source(
    path: Path,
    options: Mapping[str, str] | None,
    named: ImageFormat | None,
    installed: Callable[[], Sequence[ImageFormat]],
) -> BlockSource:
    """Open `path` with the format the caller named, or with the one of the installed that the file is of."""
    from hypersdk.data.imagefile import ImageFile

    file = ImageFile.open(path)
    try:
        image_format = named if named is not None else probe(file, installed())
        return image_format.open(file, options)
    except BaseException:
        file.close()
        raise

"""Opening and looking at one image: open_image, image_info, image_map, check, measure.

Every function closes what it opened. Reading guest data is left to `conversion` and `comparison`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.extent import ExtentKind, coalesce
from hypersdk.data.imagefile import ImageFile

if TYPE_CHECKING:
    from hypersdk.data.images.registry import FormatRegistry
    from hypersdk.data.source import BlockSource
    from hypersdk.plugin.image_format import CheckReport, ImageFormat


def open_image(
    path: str | Path, *, registry: FormatRegistry, format_name: str = "", options: Mapping[str, str] | None = None
) -> BlockSource:
    """The image at `path` as a source; its format is probed when none is named. The caller closes it. Raises
    NotFound, InvalidArgument (NOT_A_REGULAR_FILE, FORMAT_UNRECOGNISED) and what `ImageFormat.open` raises."""
    file = ImageFile.open(path)
    try:
        return _format_of(file, registry, format_name).open(file, options)
    except BaseException:
        file.close()
        raise


def image_info(path: str | Path, *, registry: FormatRegistry, format_name: str = "") -> dict[str, Any]:
    """The source's `info()` with `filename`, `file_size` and `actual_size` (bytes of disk it occupies)."""
    with ImageFile.open(path) as file:
        facts = {"filename": str(path), "file_size": file.size, "actual_size": file.allocated_bytes}
    with open_image(path, registry=registry, format_name=format_name, options={"chain": "off"}) as source:
        return {**source.info(), **facts}


def image_map(path: str | Path, *, registry: FormatRegistry, format_name: str = "") -> Iterator[dict[str,
Any]]:
    """The extents, neighbours merged: `start`, `length` (bytes), `zero`, `data`."""
    with open_image(path, registry=registry, format_name=format_name) as source:
        for extent in coalesce(source.extents()):
            data = extent.kind == ExtentKind.DATA
            yield {"start": extent.offset, "length": extent.length, "zero": not data, "data": data}


def check(
    path: str | Path, *, registry: FormatRegistry, format_name: str = "", repair: bool = False
) -> CheckReport:
    """The format's own consistency check. `repair` opens the file for writing and mends leaks in place."""
    with ImageFile.open(path, writable=repair) as file:
        return _format_of(file, registry, format_name).check(file, repair=repair)


def measure(
    path: str | Path,
    *,
    registry: FormatRegistry,
    format_name: str = "",
    target_format: str,
    options: Mapping[str, str] | None = None,
) -> int:
    """Upper bound of the bytes that the image's content would take in `target_format`."""
    with open_image(path, registry=registry, format_name=format_name) as source:
        return registry.get(target_format).measure(source, options)


def _format_of(file: ImageFile, registry: FormatRegistry, format_name: str) -> ImageFormat:
    return registry.get(format_name) if format_name else registry.probe(file)[0]

"""Opening and looking at one image: open_image, image_info, backing_chain, image_map, check, measure.

Every function closes what it opened. Reading guest data is left to `conversion` and `comparison`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersdk.data.backing import MAX_CHAIN
from hypersdk.data.extent import ExtentKind, FileRange, coalesce
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

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
        facts = _facts(file)
    with open_image(path, registry=registry, format_name=format_name, options={"chain": "off"}) as source:
        return {**source.info(), **facts}


def backing_chain(path: str | Path, *, registry: FormatRegistry, format_name: str = "") -> list[dict[str, Any]]:
    """`image_info` of the image and of every file below it, nearest first, by the rule for chains: plain names of
    regular files in the image's own directory, in the format that is recorded (without one: the image's own).
    Raises MalformedImage (BACKING_CHAIN_LOOP)."""
    chain: list[dict[str, Any]] = []
    seen: set[tuple[int, int]] = set()
    with ExitStack() as stack:
        file = ImageFile.open(path)
        while True:
            stack.callback(file.close)
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) in seen or len(seen) >= MAX_CHAIN:
                raise MalformedImage(
                    f"{file.path.name}: the chain of backing files is a loop or longer than {MAX_CHAIN} files",
                    structure="backing file name", reason="BACKING_CHAIN_LOOP",
                )  # fmt: skip
            seen.add((status.st_dev, status.st_ino))
            facts = _facts(file)
            image_format = _format_of(file, registry, format_name)
            info = stack.enter_context(image_format.open(file, {"chain": "off"})).info()
            chain.append({**info, **facts})
            name = info.get("backing_file")
            if not name:
                return chain
            format_name = info.get("backing_format") or image_format.name
            file = file.open_sibling(name, structure="backing file")


def _facts(file: ImageFile) -> dict[str, Any]:
    return {"filename": str(file.path), "file_size": file.size, "actual_size": file.allocated_bytes}


def image_map(
    path: str | Path, *, registry: FormatRegistry, format_name: str = ""
) -> Iterator[dict[str, Any]]:
    """The extents, neighbours merged, with qemu-img's keys: `start`, `length` (bytes), `depth` (0: of this image, as
    an image with a parent is refused), `present` and `data` (it is stored), `zero`, and for data that lies as it is
    in a file, `offset` in that file. Data is cut where its offsets are not consecutive."""
    with open_image(path, registry=registry, format_name=format_name) as source:
        for extent in coalesce(source.extents()):
            if extent.kind == ExtentKind.ZERO:
                yield _mapped(extent.offset, extent.length, data=False)
                continue
            ranges = source.file_ranges(extent.offset, extent.length)
            if ranges is None:
                yield _mapped(extent.offset, extent.length, data=True)
                continue
            at = extent.offset
            for offset, length in _joined(ranges):
                yield {**_mapped(at, length, data=True), "offset": offset}
                at += length


def _mapped(start: int, length: int, *, data: bool) -> dict[str, Any]:
    return {"start": start, "length": length, "depth": 0, "present": data, "zero": not data, "data": data}


def _joined(ranges: Iterable[FileRange]) -> Iterator[tuple[int, int]]:
    """(offset, length) of file ranges, those that follow each other in one file joined."""
    held: FileRange | None = None
    for one in ranges:
        if held is not None and one.fd == held.fd and one.file_offset == held.file_offset + held.length:
            held = FileRange(held.fd, held.file_offset, held.length + one.length)
            continue
        if held is not None:
            yield held.file_offset, held.length
        held = one
    if held is not None:
        yield held.file_offset, held.length


def check(
    path: str | Path, *, registry: FormatRegistry, format_name: str = "", repair: bool = False, mend: bool = False
) -> CheckReport:
    """The format's own consistency check. `repair` opens the file for writing and mends leaks in place, `mend`
    whatever needs no guess."""
    with ImageFile.open(path, writable=repair or mend) as file:
        image_format = _format_of(file, registry, format_name)
        return image_format.mend(file) if mend else image_format.check(file, repair=repair)


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

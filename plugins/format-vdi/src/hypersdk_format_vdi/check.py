"""Consistency of a VDI without reading guest data: the header, and every entry of the block map."""

from __future__ import annotations

from hypersdk.data.imagefile import ImageFile
from hypersdk.plugin import CheckReport

from hypersdk_format_vdi.blocks import Census
from hypersdk_format_vdi.header import read_header

_MAX_MESSAGES = 100


def check_image(file: ImageFile, *, repair: bool) -> CheckReport:
    """An image whose header is impossible raises, as `open` does; the parent of a differencing disk is not looked
    at."""
    header = read_header(file)
    census = Census(file, header)
    messages: list[str] = []
    corruptions = 0
    for fault in census.faults():
        corruptions += fault.times
        if len(messages) < _MAX_MESSAGES:
            messages.append(fault.message)
    if census.stored != header.allocated and not corruptions:
        corruptions += 1
        messages.append(
            f"{file.path.name}: the header says that {header.allocated} blocks are allocated, the block map says "
            f"{census.stored}"
        )
    in_file = min(header.blocks, max(0, file.size - header.data_offset) // header.stride)
    leaks = max(0, in_file - census.stored) if not corruptions else 0
    if leaks:
        messages.append(f"{file.path.name}: {leaks} blocks in the file are used by nothing")
    if repair and leaks:
        messages.append("unused blocks of a VDI are not removed in place; convert the image to reclaim them")
    return CheckReport(
        corruptions=corruptions,
        leaks=leaks,
        allocated_units=census.stored,
        total_units=header.blocks,
        messages=tuple(messages[:_MAX_MESSAGES]),
    )

"""Consistency of a VHD without reading guest data: both footers, the header, and every entry of the table."""

from __future__ import annotations

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.plugin import CheckReport

from hypersdk_format_vpc.bat import Table, read_table, table_faults
from hypersdk_format_vpc.geometry import virtual_size
from hypersdk_format_vpc.header import DynamicHeader
from hypersdk_format_vpc.layout import SECTOR, UNALLOCATED
from hypersdk_format_vpc.structures import read_structures

_MAX_MESSAGES = 100


def check_image(file: ImageFile, *, repair: bool) -> CheckReport:
    """An image that cannot even be opened raises, as `open` does; the parent of a differencing disk is not looked
    at."""
    found = read_structures(file)
    footer, header = found.footer, found.header
    size, _ = virtual_size(footer.current_size, footer.geometry, footer.creator)
    messages = list(found.faults)
    corruptions = len(messages)
    if header is None:
        if size > found.end:
            messages.append(f"{file.path.name}: a fixed disk of {size} bytes ends at offset {found.end}")
            corruptions += 1
        return CheckReport(corruptions=corruptions, messages=tuple(messages))
    table = read_table(file, header, size)
    for fault in table_faults(file, header, table, size=size, end=found.end, header_offset=footer.data_offset):
        messages.append(fault.message)
        corruptions += fault.times
    leaks = _leaks(header, table, found.end)
    if repair and leaks:
        messages.append("unused blocks of a VHD are not removed in place; convert the image to reclaim them")
    return CheckReport(
        corruptions=corruptions,
        leaks=leaks,
        allocated_units=int(np.count_nonzero(table != UNALLOCATED)),
        total_units=len(table),
        messages=tuple(messages[:_MAX_MESSAGES]),
    )


def _leaks(header: DynamicHeader, table: Table, end: int) -> int:
    """Whole blocks between the table and the footer that nothing uses; padding between blocks is none."""
    stride = header.bitmap_bytes + header.block
    starts = np.sort(table[table != UNALLOCATED].astype(np.int64)) * SECTOR
    after_table = header.table_offset + header.entries * 4
    free_from = np.concatenate([[after_table], starts + stride])
    gaps = np.maximum(0, np.concatenate([starts, [end]]) - free_from)
    return int(np.sum(gaps // stride))

"""The block allocation table: read, and judged as a whole before any of it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypersdk.data.blockruns import ABSENT, Entries
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_vpc.header import DynamicHeader
from hypersdk_format_vpc.layout import FOOTER_BYTES, HEADER_BYTES, SECTOR, UNALLOCATED

Table = npt.NDArray[np.uint32]


def read_table(file: ImageFile, header: DynamicHeader, size: int) -> Table:
    """The entries of a disk of `size` bytes; what a table has beyond that is not looked at. At most 16 MiB, of the
    1 that Hyper-V's largest disk has 4. Raises MalformedImage."""
    blocks = -(-size // header.block)
    if header.entries < blocks:
        raise MalformedImage(
            f"{file.path.name}: the block allocation table has {header.entries} entries, a disk of {size} bytes needs "
            f"{blocks}", structure="block allocation table", offset=header.table_offset,
        )  # fmt: skip
    raw = file.pread(header.table_offset, blocks * 4, structure="block allocation table")
    return np.frombuffer(raw, dtype=">u4").astype(np.uint32)


class Fault(NamedTuple):
    """A kind of fault of the table: a sentence on the first one, and how many there are."""

    message: str
    times: int
    reason: str


def table_faults(
    file: ImageFile, header: DynamicHeader, table: Table, *, size: int, end: int, header_offset: int
) -> Iterator[Fault]:
    """Entries outside the file, blocks that overlap each other or the metadata. `end`: where blocks must end,
    `header_offset`: of the dynamic disk header."""
    name = file.path.name
    numbers = np.flatnonzero(table != UNALLOCATED)
    starts = table[numbers].astype(np.int64) * SECTOR
    used = np.minimum(np.int64(header.block), size - numbers.astype(np.int64) * header.block)
    ends = starts + header.bitmap_bytes + used
    beyond = np.flatnonzero(ends > end)
    if len(beyond):
        first = int(beyond[0])
        yield Fault(
            f"{name}: block {numbers[first]} lies at offset {starts[first]} to {ends[first]}, past the end of the "
            f"blocks at {end}; the file is truncated or the table corrupt", len(beyond), "IMAGE_TRUNCATED",
        )  # fmt: skip
    areas = [(header_offset, HEADER_BYTES), (header.table_offset, len(table) * 4), (0, FOOTER_BYTES)]
    ascending = len(starts) < 2 or bool(np.all(starts[1:] >= ends[:-1]))
    if ascending and (not len(starts) or int(starts[0]) >= max(at + length for at, length in areas)):
        return
    starts = np.concatenate([starts, [at for at, _ in areas]])
    ends = np.concatenate([ends, [at + length for at, length in areas]])
    order = np.argsort(starts, kind="stable")
    clashes = np.flatnonzero(ends[order][:-1] > starts[order][1:])
    if len(clashes):
        what = [_called(int(order[clashes[0] + side]), numbers) for side in (0, 1)]
        where = starts[order[clashes[0] + 1]]
        yield Fault(f"{name}: {what[0]} and {what[1]} overlap at offset {where}", len(clashes), "IMAGE_MALFORMED")


def _called(index: int, numbers: npt.NDArray[np.intp]) -> str:
    if index < len(numbers):
        return f"block {numbers[index]}"
    return ("the dynamic disk header", "the block allocation table", "the footer's copy")[index - len(numbers)]


def judged(file: ImageFile, header: DynamicHeader, *, size: int, end: int, header_offset: int) -> Table:
    """The table, every entry of which may be followed. Raises MalformedImage."""
    table = read_table(file, header, size)
    for fault in table_faults(file, header, table, size=size, end=end, header_offset=header_offset):
        raise MalformedImage(
            fault.message, structure="block allocation table", offset=header.table_offset, reason=fault.reason
        )
    return table


def positions(table: Table, bitmap_bytes: int, first: int, count: int) -> Entries:
    """Where the data of `count` blocks from `first` lies, behind their bitmaps."""
    entries = table[first : first + count]
    found = entries.astype(np.int64) * SECTOR + bitmap_bytes
    return np.where(entries == UNALLOCATED, np.int64(ABSENT), found)

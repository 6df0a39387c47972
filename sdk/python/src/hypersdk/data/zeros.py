"""Zero detection: which parts of a buffer or a plain file hold nothing but zero bytes.

Compares with memcmp (through `bytearray.startswith`, which copies nothing), so a unit with data in its first
bytes costs a fraction of a microsecond and a unit of zeros about 20 µs a MiB. There is no loop over sectors
and no numpy here, whose import alone costs 70 ms. What to do with the zeros is the pipeline's and the sink's
affair.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from hypersdk.data.sink import Buffer

ZERO_UNIT = 65536
"""Smallest run of zeros looked for, bytes. Finer units leave out more but cost more; a sink's own allocation
unit is used where it is larger."""

_ZEROS = bytes(ZERO_UNIT)
_HEAD = bytes(32)


def is_zero(data: Buffer, offset: int = 0, length: int | None = None) -> bool:
    """Are `length` bytes of `data` from `offset` all zero? `length` None means to the end."""
    end = len(data) if length is None else offset + length
    if isinstance(data, memoryview):
        return all(_ZEROS.startswith(data[at : min(at + ZERO_UNIT, end)]) for at in range(offset, end, ZERO_UNIT))
    while end - offset >= ZERO_UNIT:
        if not data.startswith(_ZEROS, offset):
            return False
        offset += ZERO_UNIT
    return data.startswith(_ZEROS[: end - offset], offset)


def runs(data: Buffer, length: int, unit: int = ZERO_UNIT) -> Iterator[tuple[int, int, bool]]:
    """Split the first `length` bytes into (offset, length, holds data), in order, adjacent runs differing. Runs
    begin at multiples of `unit` from the start of `data`."""
    start, kind = 0, None
    for at in range(0, length, unit):
        holds_data = not is_zero(data, at, min(unit, length - at))
        if holds_data is not kind:
            if kind is not None:
                yield start, at - start, kind
            start, kind = at, holds_data
    if kind is not None:
        yield start, length - start, kind


def file_runs(fd: int, offset: int, length: int, unit: int = ZERO_UNIT) -> Iterator[tuple[int, int, bool]]:
    """As `runs`, for [offset, offset+length) of a file: a unit whose first bytes are not zero is taken for data
    unread (1 µs), the others are read. Offsets are relative to `offset`. A short read counts as data, so that
    whoever copies it reports the truncation."""
    start, kind = 0, None
    for at in range(0, length, unit):
        holds_data = os.pread(fd, len(_HEAD), offset + at) != _HEAD or not _file_is_zero(
            fd, offset + at, min(unit, length - at)
        )
        if holds_data is not kind:
            if kind is not None:
                yield start, at - start, kind
            start, kind = at, holds_data
    if kind is not None:
        yield start, length - start, kind


def _file_is_zero(fd: int, offset: int, length: int) -> bool:
    done = 0
    while done < length:
        block = os.pread(fd, min(ZERO_UNIT, length - done), offset + done)
        if not block or not _ZEROS.startswith(block):
            return False
        done += len(block)
    return True

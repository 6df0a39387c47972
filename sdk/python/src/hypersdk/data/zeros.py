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

_ZEROS = bytes(1 << 20)
_HEAD = 32


def is_zero(data: Buffer, offset: int = 0, length: int | None = None) -> bool:
    """Are `length` bytes of `data` from `offset` all zero? `length` None means to the end."""
    end = len(data) if length is None else offset + length
    if isinstance(data, memoryview):
        return all(_is_zero_block(bytes(data[at : min(at + ZERO_UNIT, end)])) for at in range(offset, end, ZERO_UNIT))
    while end - offset >= len(_ZEROS):
        if not data.startswith(_ZEROS, offset):
            return False
        offset += len(_ZEROS)
    return data.startswith(_ZEROS[: end - offset], offset)


def _is_zero_block(block: bytes) -> bool:
    return _ZEROS.startswith(block)


def runs(data: Buffer, length: int, unit: int = ZERO_UNIT) -> Iterator[tuple[int, int, bool]]:
    """Split the first `length` bytes into (offset, length, holds data), in order, adjacent runs differing.
    Runs begin at multiples of `unit` from the start of `data`."""
    yield from _merge((at, min(unit, length - at), not is_zero(data, at, min(unit, length - at)))
                      for at in range(0, length, unit))  # fmt: skip


def file_runs(fd: int, offset: int, length: int, unit: int = ZERO_UNIT) -> Iterator[tuple[int, int, bool]]:
    """As `runs`, for [offset, offset+length) of a file: a unit whose first bytes are not zero is taken for
    data unread (0.6 µs), the others are read. Offsets are relative to `offset`. A short read counts as data,
    so that whoever copies it reports the truncation."""
    yield from _merge((at, min(unit, length - at), not _file_unit_is_zero(fd, offset + at, min(unit, length - at)))
                      for at in range(0, length, unit))  # fmt: skip


def _file_unit_is_zero(fd: int, offset: int, length: int) -> bool:
    head = os.pread(fd, min(_HEAD, length), offset)
    if not head or not _ZEROS.startswith(head):
        return False
    done = len(head)
    while done < length:
        block = os.pread(fd, min(len(_ZEROS), length - done), offset + done)
        if not block or not _ZEROS.startswith(block):
            return False
        done += len(block)
    return True


def _merge(units: Iterator[tuple[int, int, bool]]) -> Iterator[tuple[int, int, bool]]:
    start, size, kind = 0, 0, False
    for offset, length, holds_data in units:
        if size and holds_data != kind:
            yield start, size, kind
            start, size = offset, 0
        size += length
        kind = holds_data
    if size:
        yield start, size, kind

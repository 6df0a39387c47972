"""Holes of plain files: which ranges of a sparse file are allocated, by SEEK_DATA and SEEK_HOLE (lseek(2)).

One system call for each change between data and hole, whatever the file's size. A file system that knows no
holes calls everything data, which is correct and merely slower.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from hypersdk.data.extent import Extent, ExtentKind


def file_extents(fd: int, start: int, end: int) -> Iterator[Extent]:
    """Extents of [start, end) of the open file `fd`, offsets in the file, in order and without gaps. What
    lies past the end of the file counts as DATA, so that reading it reports the truncation."""
    at = start
    while at < end:
        data = min(_seek(fd, at, os.SEEK_DATA, end), end)
        if data > at:
            yield Extent(at, data - at, ExtentKind.ZERO)
        if data >= end:
            return
        hole = min(_seek(fd, data, os.SEEK_HOLE, end), end)
        if hole > data:  # equal when somebody punched a hole between the two calls
            yield Extent(data, hole - data, ExtentKind.DATA)
        at = hole


def _seek(fd: int, offset: int, whence: int, end: int) -> int:
    try:
        found = os.lseek(fd, offset, whence)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # SEEK_DATA: only a hole follows; either: the file ends before `offset`
            size = os.fstat(fd).st_size
            past_end = offset >= size
            return (offset if whence == os.SEEK_DATA else end) if past_end else max(offset, min(end, size))
        if exc.errno in {errno.EINVAL, errno.ENOTSUP}:
            return offset if whence == os.SEEK_DATA else end
        raise
    if whence == os.SEEK_HOLE and found >= os.fstat(fd).st_size:
        return end  # every file has a hole at its end; past it, the caller wants DATA
    return max(found, offset)

"""What a reply may say: the collectors of the chunks that answer one request.

A collector is given each chunk's type and payload length before a byte of the payload is read, reads no more than it
has judged to be right, and says at the end whether the answer is whole.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd import faults
from hypersdk.data.nbd.stream import Stream

_CHUNK_ALLOWANCE = 16
_MAX_STATUS_BYTES = 8 << 20
"""nbdkit sends up to 1,048,576 extents, QEMU 131,072."""

Status = list[tuple[int, int]]
"""(length in bytes, flags), in order."""


class Collector:
    """An answer without content (write, flush, trim). `deadline` is set by whoever sent the request."""

    simple_is_enough = True
    """May a simple reply, which carries no chunks, report success?"""

    def chunk(self, kind: int, length: int, stream: Stream, doing: str, deadline: float) -> None:  # noqa: ARG002
        """Read the payload of one chunk that is no error and has one."""
        raise faults.violation(f"a chunk of type {kind} with {length} bytes in the answer to {doing}")

    def simple(self, stream: Stream, doing: str, deadline: float) -> None:
        """Read what follows a simple reply that reports success."""

    def complete(self, doing: str) -> None:
        """Raise when the answer ended without error and is not whole."""


class ReadCollector(Collector):
    """Puts data and holes into `view`, which stands for the disk from `offset` on."""

    simple_is_enough = False

    def __init__(self, offset: int, view: memoryview) -> None:
        self._offset = offset
        self._view = view
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._chunks = 0

    def chunk(self, kind: int, length: int, stream: Stream, doing: str, deadline: float) -> None:
        self._chunks += 1
        if self._chunks > _CHUNK_ALLOWANCE + len(self._view) // 512:
            raise faults.violation(f"more chunks than sectors in the answer to {doing}")
        if kind == c.REPLY_OFFSET_DATA:
            count = length - c.OFFSET.size
            if not 0 < count <= len(self._view):
                raise faults.violation(f"a data chunk of {length} bytes in the answer to {doing}")
            (offset,) = c.OFFSET.unpack(stream.read(c.OFFSET.size, doing, deadline))
            start = self._take(offset, count, doing)
            stream.readinto(self._view[start : start + count], doing, deadline)
        elif kind == c.REPLY_OFFSET_HOLE:
            if length != c.HOLE.size:
                raise faults.violation(f"a hole chunk of {length} bytes in the answer to {doing}")
            offset, count = c.HOLE.unpack(stream.read(c.HOLE.size, doing, deadline))
            start = self._take(offset, count, doing)
            self._view[start : start + count] = bytes(count)
        else:
            super().chunk(kind, length, stream, doing, deadline)

    def simple(self, stream: Stream, doing: str, deadline: float) -> None:
        self._take(self._offset, len(self._view), doing)
        stream.readinto(self._view, doing, deadline)

    def complete(self, doing: str) -> None:
        if self._starts != [0] or self._ends != [len(self._view)]:
            raise faults.violation(f"an answer to {doing} that lacks some of its bytes")

    def _take(self, offset: int, count: int, doing: str) -> int:
        """Where in `view` the bytes go, if they belong to the request and have not come yet."""
        start = offset - self._offset
        end = start + count
        if count < 1 or start < 0 or end > len(self._view):
            raise faults.violation(f"bytes {offset}+{count} in the answer to {doing}")
        at = bisect_right(self._ends, start)  # the first run that ends behind our start
        if at < len(self._starts) and self._starts[at] < end:
            raise faults.violation(f"bytes {offset}+{count} twice in the answer to {doing}")
        after = at < len(self._starts) and self._starts[at] == end
        before = at > 0 and self._ends[at - 1] == start
        if before and after:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif before:
            self._ends[at - 1] = end
        elif after:
            self._starts[at] = start
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)
        return start


class StatusCollector(Collector):
    """`found`: for each context of the connection, what it says from `offset` on; at least one entry each, and
    together never past `length` (what a server says beyond is cut)."""

    simple_is_enough = False

    def __init__(self, length: int, contexts: Mapping[str, int], *, extended: bool) -> None:
        self.found: dict[str, Status] = {}
        self._length = length
        self._names = {number: name for name, number in contexts.items()}
        self._wide = extended

    def chunk(self, kind: int, length: int, stream: Stream, doing: str, deadline: float) -> None:
        wide = kind == c.REPLY_BLOCK_STATUS_EXT
        if kind not in {c.REPLY_BLOCK_STATUS, c.REPLY_BLOCK_STATUS_EXT} or (wide and not self._wide):
            super().chunk(kind, length, stream, doing, deadline)
        head, entry = (c.CONTEXT_EXT, struct.Struct(">QQ")) if wide else (c.CONTEXT, struct.Struct(">II"))
        body = length - head.size
        if body < entry.size or body % entry.size or length > _MAX_STATUS_BYTES + head.size:
            raise faults.violation(f"a block status of {length} bytes in the answer to {doing}")
        payload = stream.read(length, doing, deadline)
        number = head.unpack_from(payload)[0]
        if wide and head.unpack_from(payload)[1] not in {0, body // entry.size}:
            raise faults.violation(f"a block status that miscounts its extents in the answer to {doing}")
        name = self._names.pop(number, None)
        if name is None:
            raise faults.violation(f"a block status of context {number}, twice or not asked for")
        self.found[name] = self._judged(entry.iter_unpack(memoryview(payload)[head.size :]), doing)

    def complete(self, doing: str) -> None:
        if self._names:
            raise faults.violation(f"an answer to {doing} without {', '.join(self._names.values())}")

    def _judged(self, entries: Iterable[tuple[Any, ...]], doing: str) -> Status:
        status: Status = []
        left = self._length
        for count, flags in entries:
            if not count:
                raise faults.violation(f"an extent of no bytes in the answer to {doing}")
            if not left:
                raise faults.violation(f"extents past the end of the request in the answer to {doing}")
            count = min(count, left)
            left -= count
            if status and status[-1][1] == flags:
                status[-1] = (status[-1][0] + count, flags)
            else:
                status.append((count, flags))
        return status

"""NbdSource: an export of an NBD server as a BlockSource.

The map comes from the metadata context base:allocation, where the server has it; without, all is DATA. What has changed
comes from a dirty bitmap of QEMU (qemu:dirty-bitmap:NAME). The server must not change the disk while it is open: the
source does not reconnect, because whoever answers then need not serve the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd.address import NbdAddress
from hypersdk.data.nbd.connection import Connection, Request
from hypersdk.data.nbd.pool import Pool
from hypersdk.data.nbd.replies import ReadCollector, Status, StatusCollector
from hypersdk.data.source import BlockSource
from hypersdk.errors import HyperError, NotFound, OutOfRange

_MAX_READ = 4 << 20
"""Larger reads are sent as several, which the server may work on at once."""
_MAX_STATUS = 1 << 30
"""Of one block status request on 32-bit headers: a power of two below 2³², which every server takes."""
_PATIENCE = 64
"""Answers that may lengthen one extent before it is handed out, so that whoever iterates can stop in time."""


class NbdSource(BlockSource):
    """See BlockSource and the module's docstring.

    bitmaps      names of dirty bitmaps that `changes` will be asked for
    connections  at most; more than one only where the server says that they see the same disk
    timeout_s    without an answer after which the server counts as hung

    Raises NotFound (NBD_EXPORT_UNKNOWN, NBD_BITMAP_MISSING), Unavailable (NBD_CONNECTION_LOST), DeadlineExceeded
    (NBD_TIMEOUT), Unsupported (NBD_SERVER_TOO_OLD, NBD_TLS_REQUIRED), DataLoss (NBD_PROTOCOL_VIOLATION)."""

    def __init__(
        self, address: NbdAddress, *, bitmaps: Sequence[str] = (), connections: int = 4, timeout_s: float = 30.0
    ) -> None:
        wanted = [c.BASE_ALLOCATION, *(c.DIRTY_BITMAP + name for name in bitmaps)]
        self._pool = Pool(address, wanted, connections=connections, timeout_s=timeout_s)
        self._export = self._pool.export
        missing = [name for name in bitmaps if c.DIRTY_BITMAP + name not in self._export.contexts]
        if missing:
            self.close()
            raise NotFound(
                f"the NBD server at {address} does not offer the dirty bitmap {missing[0]!r}; export it "
                "(qemu-nbd -B NAME, block-export-add) and make sure that it is enabled and consistent",
                reason="NBD_BITMAP_MISSING",
            )
        self._unit = self._export.min_block
        self._piece = max(self._unit, min(_MAX_READ, self._export.max_block) // self._unit * self._unit)

    @property
    def size(self) -> int:
        return self._export.size

    @property
    def granularity(self) -> int:
        return max(min(self._export.preferred_block, 65536), self._unit)

    @property
    def has_map(self) -> bool:
        """Does the server tell which ranges read as zeros?"""
        return c.BASE_ALLOCATION in self._export.contexts

    def info(self) -> dict[str, Any]:
        export = self._export
        details = {
            "min_block": export.min_block, "preferred_block": export.preferred_block, "max_block": export.max_block,
            "read_only": export.has(c.READ_ONLY), "multi_conn": export.has(c.CAN_MULTI_CONN),
            "headers": "extended" if export.extended else "structured" if export.structured else "simple",
            "contexts": sorted(export.contexts),
        }  # fmt: skip
        return {"format": "nbd", "virtual_size": export.size, "details": details}

    def readinto(self, offset: int, buffer: memoryview) -> None:
        end = offset + len(buffer)
        self._must_contain(offset, end)
        low, high = self._aligned(offset, end)
        if (low, high) == (offset, end):
            self._read(offset, buffer)
            return
        inner = memoryview(bytearray(high - low)) if high - low <= self._piece else None
        if inner is not None:
            self._read(low, inner)
            buffer[:] = inner[offset - low : end - low]
            return
        # Long and askew: the head and the tail through a block of their own, the rest in place.
        head, tail = low + self._unit if low < offset else low, high - self._unit if high > end else high
        for start, stop in ((offset, head), (tail, end)):
            if start < stop:
                self.readinto(start, buffer[start - offset : stop - offset])
        self._read(head, buffer[head - offset : tail - offset])

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.size if length is None else offset + length
        self._must_contain(offset, end)
        if not self.has_map:
            return iter([Extent(offset, end - offset, ExtentKind.DATA)] if end > offset else [])
        return self._merged(self._walk(offset, end, [c.BASE_ALLOCATION]))

    def changes(self, bitmap: str, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """What is dirty in `bitmap`, in order: ZERO where it reads as zeros now, DATA elsewhere; gaps are unchanged.
        Raises NotFound (NBD_BITMAP_MISSING) for a bitmap that was not named when the source was opened."""
        context = c.DIRTY_BITMAP + bitmap
        if context not in self._export.contexts:
            raise NotFound(f"the dirty bitmap {bitmap!r} was not asked for", reason="NBD_BITMAP_MISSING")
        end = self.size if length is None else offset + length
        self._must_contain(offset, end)
        contexts = [context, *([c.BASE_ALLOCATION] if self.has_map else [])]
        return self._merged(self._walk(offset, end, contexts))

    def close(self) -> None:
        self._pool.close()

    def _read(self, offset: int, view: memoryview) -> None:
        """Aligned, or up to the end of the disk. All that was asked for is awaited, whatever fails: an answer that is
        under way writes into `view`."""
        if not len(view):
            return
        with self._pool.borrowed() as connection:
            self._read_from(connection, offset, view)

    def _read_from(self, connection: Connection, offset: int, view: memoryview) -> None:
        requests: list[Request] = []
        failure: HyperError | None = None
        for at in range(0, len(view), self._piece):
            part = view[at : at + self._piece]
            collector = ReadCollector(offset + at, part)
            try:
                requests.append(connection.submit(c.CMD_READ, offset + at, len(part), collector))
            except HyperError as exc:
                failure = exc
                break
        for request in requests:
            try:
                connection.wait(request)
            except HyperError as exc:
                failure = failure or exc
        if failure is not None:
            raise failure

    def _walk(self, offset: int, end: int, contexts: Sequence[str]) -> Iterator[Extent | None]:
        """The map of [offset, end) as the contexts have it: the first may be a bitmap's, whose clean ranges are left
        out. None after each answer of the server."""
        most = (1 << 62) if self._export.extended else _MAX_STATUS
        at = offset
        while at < end:
            low, high = self._aligned(at, min(end, at + most - self._unit))
            collector = StatusCollector(high - low, self._export.contexts, extended=self._export.extended)
            with self._pool.borrowed() as connection:
                connection.call(c.CMD_BLOCK_STATUS, low, high - low, collector)
            for length, flags in _together([collector.found[name] for name in contexts]):
                start, stop = max(low, offset), min(low + length, end)
                low += length
                if start < stop:
                    kind = _kind(flags, contexts)
                    if kind is not None:
                        yield Extent(start, stop - start, kind)
            at = low
            yield None

    def _merged(self, extents: Iterator[Extent | None]) -> Iterator[Extent]:
        held: Extent | None = None
        answers = 0
        for extent in extents:
            if extent is None:
                answers += 1
                if held is not None and answers >= _PATIENCE:
                    yield held
                    held, answers = None, 0
            elif held is not None and held.kind == extent.kind and held.end == extent.offset:
                held = Extent(held.offset, held.length + extent.length, held.kind)
            else:
                if held is not None:
                    yield held
                    answers = 0
                held = extent
        if held is not None:
            yield held

    def _aligned(self, start: int, end: int) -> tuple[int, int]:
        unit = self._unit
        return start // unit * unit, min(-(-end // unit) * unit, self.size)

    def _must_contain(self, offset: int, end: int) -> None:
        if not 0 <= offset <= end <= self.size:
            raise OutOfRange(f"bytes {offset} to {end} of a disk of {self.size} bytes")


def _kind(flags: tuple[int, ...], contexts: Sequence[str]) -> ExtentKind | None:
    """None: a range that the bitmap calls clean."""
    by_name = dict(zip(contexts, flags, strict=True))
    allocation = by_name.pop(c.BASE_ALLOCATION, 0)
    if by_name and not any(dirty & c.STATE_DIRTY for dirty in by_name.values()):
        return None
    return ExtentKind.ZERO if allocation & c.STATE_ZERO else ExtentKind.DATA


def _together(statuses: Sequence[Status]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Several maps from one offset on, cut at each other's boundaries, as far as the shortest goes."""
    if len(statuses) == 1:
        yield from ((length, (flags,)) for length, flags in statuses[0])
        return
    positions = [0] * len(statuses)
    left = [status[0][0] for status in statuses]
    while True:
        step = min(left)
        yield step, tuple(status[at][1] for status, at in zip(statuses, positions, strict=True))
        for number, status in enumerate(statuses):
            left[number] -= step
            if left[number] == 0:
                positions[number] += 1
                if positions[number] == len(status):
                    return
                left[number] = status[positions[number]][0]

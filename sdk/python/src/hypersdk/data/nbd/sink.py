"""NbdSink: an export of an NBD server as a BlockSink.

Several writes are under way at once; an error of one is raised by the next call. An export may hold anything before, so
`zero` really writes zeros: as NBD_CMD_WRITE_ZEROES where the server has it. With `starts_blank` (a disk that was
created for this) it costs nothing instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd.address import NbdAddress
from hypersdk.data.nbd.connection import Connection, Request
from hypersdk.data.nbd.replies import Collector
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, OutOfRange, Unsupported

_MAX_WRITE = 2 << 20
_MAX_UNDER_WAY = 8
_MAX_ZEROES = 1 << 30


class NbdSink(BlockSink):
    """See BlockSink and the module's docstring. One thread at a time. Raises as NbdSource does, and
    FailedPrecondition (NBD_EXPORT_READ_ONLY)."""

    random_access = True

    def __init__(self, address: NbdAddress, *, starts_blank: bool = False, timeout_s: float = 30.0) -> None:
        self._connection = Connection.open(address, (), timeout_s)
        self._export = export = self._connection.export
        if export.has(c.READ_ONLY):
            self._connection.disconnect()
            raise FailedPrecondition(
                f"the NBD server at {address} offers the export for reading only", reason="NBD_EXPORT_READ_ONLY"
            )
        self._starts_blank = starts_blank
        self._unit = export.min_block
        self._piece = max(self._unit, min(_MAX_WRITE, export.max_block) // self._unit * self._unit)
        self._under_way: deque[Request] = deque()
        self._written = 0

    @property
    def size(self) -> int:
        return self._export.size

    @property
    def granularity(self) -> int:
        return max(min(self._export.preferred_block, 65536), self._unit)

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._must_take(offset, len(view))
        for at in range(0, len(view), self._piece):
            part = view[at : at + self._piece]
            self._send(c.CMD_WRITE, offset + at, len(part), part)
        self._written += len(view)

    def zero(self, offset: int, length: int) -> None:
        self._must_take(offset, length)
        if self._starts_blank:
            return
        if self._export.has(c.SEND_WRITE_ZEROES):
            for start, count in _cut(offset, length, _MAX_ZEROES):
                self._send(c.CMD_WRITE_ZEROES, start, count)
        else:
            blank = memoryview(bytes(min(length, self._piece)))
            for start, count in _cut(offset, length, self._piece):
                self._send(c.CMD_WRITE, start, count, blank[:count])
            self._written += length

    def trim(self, offset: int, length: int) -> None:
        """The bytes are not needed any more, and what they read as is not said. Raises Unsupported."""
        self._must_take(offset, length)
        if not self._export.has(c.SEND_TRIM):
            raise Unsupported("the NBD server has no trim", reason="NBD_REQUEST_UNSUPPORTED")
        for start, count in _cut(offset, length, _MAX_ZEROES):
            self._send(c.CMD_TRIM, start, count)

    def checkpoint(self) -> dict[str, Any] | None:
        """Everything written so far is on the server's stable storage, if it can promise that at all."""
        if not self._export.has(c.SEND_FLUSH):
            return None
        self._flush()
        return {}

    def finish(self) -> dict[str, Any]:
        self._flush()
        self._connection.disconnect()
        return {"allocated_bytes": self._written, "durable": self._export.has(c.SEND_FLUSH)}

    def abort(self) -> None:
        self._under_way.clear()
        self._connection.close()

    def _flush(self) -> None:
        self._settle(0)
        if self._export.has(c.SEND_FLUSH):
            self._send(c.CMD_FLUSH, 0, 0)
            self._settle(0)

    def _send(self, command: int, offset: int, length: int, payload: bytes | memoryview = b"") -> None:
        self._settle(_MAX_UNDER_WAY - 1)
        self._under_way.append(self._connection.submit(command, offset, length, Collector(), payload))

    def _settle(self, allowed: int) -> None:
        """Wait until no more than `allowed` requests are under way. Raises the first error."""
        failure: HyperError | None = None
        while len(self._under_way) > allowed:
            try:
                self._connection.wait(self._under_way.popleft())
            except HyperError as exc:
                failure = failure or exc
        if failure is not None:
            raise failure

    def _must_take(self, offset: int, length: int) -> None:
        end = offset + length
        if not 0 <= offset <= end <= self.size:
            raise OutOfRange(f"bytes {offset} to {end} of a disk of {self.size} bytes")
        if offset % self._unit or (end % self._unit and end != self.size):
            raise InvalidArgument(
                f"bytes {offset} to {end} are not in units of {self._unit}, as this NBD server needs them",
                reason="NBD_WRITE_UNALIGNED",
            )


def _cut(offset: int, length: int, piece: int) -> Iterator[tuple[int, int]]:
    for at in range(offset, offset + length, piece):
        yield at, min(piece, offset + length - at)

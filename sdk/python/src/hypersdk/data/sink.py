"""BlockSink: a virtual disk that is being written.

Its life: created for a known virtual size and all zeros; then `write`, `zero`, `write_file_range` in ascending order
(or in any order when `random_access`); now and then `checkpoint()`; in the end exactly one of `finish()` (everything
is on stable storage and complete) or `abort()` (drop it). What was never written reads as zeros, or as the backing file
of a sink that was created with one.

The sink writes into an `ImageFile` that its creator opened under a temporary name. Publishing under the final name is
not the sink's affair.
"""

from __future__ import annotations

import abc
from typing import Any

from hypersdk.data.extent import FileRange
from hypersdk.errors import Unsupported

Buffer = bytes | bytearray | memoryview


class BlockSink(abc.ABC):
    """A writable virtual disk. One thread calls it at a time, except for `encode`, which is pure."""

    random_access: bool = False
    """May offsets go backwards? False: the pipeline must write in ascending order."""

    encodes: bool = False
    """Has the sink CPU-bound work per block (compression) that the pipeline should do in several threads by
    `encode`, to hand the results to `write_encoded` in order?"""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Virtual size, bytes."""

    @property
    @abc.abstractmethod
    def granularity(self) -> int:
        """Bytes of the allocation unit (cluster, grain, block; a power of two). The pipeline sends DATA in pieces
        whose offsets are multiples of it; only the disk's last piece may be shorter. Pieces may be many units long."""

    @abc.abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Store `data` at `offset`. May leave out units that are all zeros. Raises OutOfRange past the end and
        ResourceExhausted when the medium is full."""

    def zero(self, offset: int, length: int) -> None:  # noqa: B027  the default is right where zeros cost nothing
        """[offset, offset+length) reads as zeros. Costs nothing in formats where it is unallocated already;
        the default does just that, because sinks start as zeros and are written once. A sink over something that
        may hold stale bytes must override it."""

    def write_file_range(self, offset: int, source: FileRange) -> bool:  # noqa: ARG002  for overriders
        """Store `source` at `offset` by copy_file_range or its like. False: cannot, use `write`. A sink that finds
        zeros worth leaving out may still do so."""
        return False

    def encode(self, offset: int, data: Buffer) -> object:  # noqa: ARG002  for overriders
        """The CPU-bound part of `write` for one piece: thread-safe, changes nothing, result is only for this
        sink's `write_encoded`. Called only where `encodes`."""
        raise Unsupported(f"{type(self).__name__} has no separate encoding step", reason="SINK_DOES_NOT_ENCODE")

    def write_encoded(self, offset: int, encoded: object) -> None:  # noqa: ARG002  for overriders
        """The rest of `write`, in ascending order of offset."""
        raise Unsupported(f"{type(self).__name__} has no separate encoding step", reason="SINK_DOES_NOT_ENCODE")

    def checkpoint(self) -> dict[str, Any] | None:
        """Make everything written so far durable (fdatasync, tables included) and return a JSON-able state from
        which `ImageFormat.create(..., resume=state)` goes on in the same file. None: this sink cannot resume."""
        return None

    @abc.abstractmethod
    def finish(self) -> dict[str, Any]:
        """Write what is still owed (tables, footers), sync, and return facts about the file, JSON-able
        (`allocated_bytes` at least). The sink is unusable after it."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Stop without promises about the file. Idempotent, never raises for I/O."""

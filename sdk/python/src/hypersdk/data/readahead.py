"""Reading a whole disk in order with threads ahead: for whoever looks at the bytes and writes none.

The pipeline does its own reading, because it also encodes and writes; `compare` reads two disks at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from hypersdk.data.pieces import Piece, PieceKind, plan
from hypersdk.data.workers import BufferPool, in_order, usable_cores

if TYPE_CHECKING:
    from hypersdk.data.source import BlockSource

PIECE_BYTES = 1 << 20


def read_ahead(
    source: BlockSource,
    start: int = 0,
    end: int | None = None,
    *,
    threads: int = 0,
    check: Callable[[], None] | None = None,
) -> Generator[tuple[int, int, memoryview | None], None, None]:
    """(offset, length, data) covering [start, end) in order; data None for zeros. Each view is valid until
    the next step. `check` is called before each; it raises to stop or blocks to pause."""
    stop = source.size if end is None else end
    threads = threads or usable_cores()
    pool = BufferPool(PIECE_BYTES)

    def read(piece: Piece) -> bytearray:
        buffer = pool.take()
        source.readinto(piece.offset, memoryview(buffer)[: piece.length])
        return buffer

    pieces = plan(source.extents(start, stop - start), stop, unit=1, piece_bytes=PIECE_BYTES)
    stream = in_order(
        pieces, read, threads=threads, limit=2 * threads + 2, inline=lambda p: p.kind == PieceKind.ZERO
    )
    try:
        for piece, buffer in stream:
            if check is not None:
                check()
            if buffer is None:
                yield piece.offset, piece.length, None
            else:
                yield piece.offset, piece.length, memoryview(buffer)[: piece.length]
                pool.give(buffer)
    finally:
        stream.close()

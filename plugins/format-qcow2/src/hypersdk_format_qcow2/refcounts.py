"""Refcounts as numbers and as the packed blocks of the file, of every width from 1 to 64 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.unsignedinteger[Any]]


def block_entries(cluster_size: int, order: int) -> int:
    """Clusters that one refcount block of one cluster counts."""
    return (cluster_size * 8) >> order


def max_refcount(order: int) -> int:
    return int((1 << (1 << order)) - 1)


def pack_block(counts: Counts, order: int) -> bytes:
    """`counts`, none above `max_refcount`, as the bytes of a block. Widths below 8 bits fill each byte from
    its low end (section "Refcount block entry"), wider ones are big-endian."""
    if order >= 3:
        return counts.astype(f">u{1 << (order - 3)}").tobytes()
    width = 1 << order
    bits = (counts.astype(np.uint8)[:, None] >> np.arange(width, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def unpack_block(block: bytes, order: int) -> Counts:
    """The counts in a block: uint8, uint16, uint32 or uint64 after the width."""
    if order >= 3:
        width = 1 << (order - 3)
        return np.frombuffer(block, dtype=f">u{width}").astype(f"u{width}")
    raw = np.frombuffer(block, dtype=np.uint8)
    per_byte, width = 8 >> order, 1 << order
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(width)
    return ((raw[:, None] >> shifts) & np.uint8((1 << width) - 1)).reshape(-1)

"""The checkpoint form of a ContentDigest: finished chunks in order, compactly.

    magic     8 bytes  "HSCD\\x00\\x00\\x00\\x01"
    size      varint   the disk's size, bytes
    records   each a varint of (chunks skipped since the last record) * 2 + kind, then
              kind 0: 32 bytes, the SHA-256 of one chunk
              kind 1: varint, the number of zero chunks

A varint is LEB128, unsigned. Reads states that may be damaged or of another disk; knows nothing of hashing.
"""

from __future__ import annotations

from typing import NamedTuple

from hypersdk.errors import InvalidArgument

_MAGIC = b"HSCD\x00\x00\x00\x01"
_LEAF = 32


class Run(NamedTuple):
    """`chunks` neighbouring chunks from number `first`."""

    first: int
    chunks: int


def encode(leaves: dict[int, bytes], zero_runs: list[Run], size: int) -> bytes:
    """The state of a digest that knows `leaves` and, elsewhere, `zero_runs` (merged, in order)."""
    records: list[tuple[int, int, bytes]] = [(i, 1, leaf) for i, leaf in leaves.items()]
    records += [(run.first, run.chunks, b"") for run in zero_runs]
    out = bytearray(_MAGIC) + _varint(size)
    at = 0
    for first, count, leaf in sorted(records):
        if first < at:  # a chunk told both as zeros and as data; the first record stands
            continue
        out += _varint((first - at) * 2 + (0 if leaf else 1))
        out += leaf or _varint(count)
        at = first + count
    return bytes(out)


def decode(state: bytes, size: int, chunks: int) -> tuple[dict[int, bytes], list[Run]]:
    """What `encode` was given. Raises InvalidArgument (DIGEST_STATE_INVALID) when the state is damaged or of
    a disk of another size."""
    if not state.startswith(_MAGIC):
        raise _invalid("does not begin with its magic number")
    leaves: dict[int, bytes] = {}
    zero_runs: list[Run] = []
    recorded, pos = _read_varint(state, len(_MAGIC))
    if recorded != size:
        raise _invalid(f"is of a disk of {recorded} bytes, not {size}")
    at = 0
    while pos < len(state):
        head, pos = _read_varint(state, pos)
        at += head >> 1
        if head & 1:
            count, pos = _read_varint(state, pos)
            zero_runs.append(Run(at, count))
        else:
            count = 1
            leaves[at] = state[pos : pos + _LEAF]
            pos += _LEAF
        at += count
        if at > chunks or pos > len(state) or count == 0:
            raise _invalid("names chunks that the disk does not have")
    return leaves, zero_runs


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    value = shift = 0
    while pos < len(data) and shift < 70:
        byte = data[pos]
        value |= (byte & 0x7F) << shift
        pos += 1
        if byte < 0x80:
            return value, pos
        shift += 7
    raise _invalid("ends in the middle of a number")


def _invalid(problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"the digest state {problem}; start the digest afresh without it", reason="DIGEST_STATE_INVALID"
    )

"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) with numpy, for structures of whole 4 KiB, which is all VHDX checksums.

The data is cut into lanes of equal length whose checksums are computed side by side, two bytes a step, and then folded
together: appending n zero bytes to a message is a linear map of its checksum. 0.4 ms for 4 KiB, 200 MB/s for a MiB.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from hypersdk.data.sink import Buffer

_POLYNOMIAL = 0x82F63B78
_ONES = np.uint32(0xFFFF_FFFF)
_CHUNK = 1 << 20
_SHORT = 1 << 16

U32 = npt.NDArray[np.uint32]


def crc32c(data: Buffer) -> int:
    """The checksum of `data`, whose length is a multiple of 256 bytes."""
    view = memoryview(data).cast("B")
    assert len(view) % 256 == 0
    state = _ONES
    for at in range(0, len(view), _CHUNK):
        state = _raw(view[at : at + _CHUNK], state)
    return int(state ^ _ONES)


def checksum_of(structure: Buffer) -> int:
    """The checksum of a VHDX structure: its own field, bytes 4 to 8, counts as zeros."""
    copy = bytearray(structure)
    copy[4:8] = bytes(4)
    return crc32c(copy)


def _raw(view: memoryview, state: np.uint32) -> np.uint32:
    """The register after `view`, which began as `state`."""
    width = 64 if len(view) <= _SHORT else 256
    columns = np.ascontiguousarray(np.frombuffer(view, dtype="<u2").reshape(-1, width // 2).T)
    table = _pair_table()
    lanes = np.zeros(columns.shape[1], np.uint32)
    lanes[0] = state
    for column in columns:
        lanes = table[(lanes ^ column) & np.uint32(0xFFFF)] ^ (lanes >> np.uint32(16))
    missing = (1 << (len(lanes) - 1).bit_length()) - len(lanes)
    lanes = np.concatenate([np.zeros(missing, np.uint32), lanes])  # a lane of zeros from state 0 changes nothing
    power = width.bit_length() - 1
    while len(lanes) > 1:
        lanes = _apply(_append_zeros(power), lanes[::2]) ^ lanes[1::2]
        power += 1
    return np.uint32(lanes[0])


@lru_cache(maxsize=1)
def _byte_table() -> U32:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & np.uint32(1), np.uint32(_POLYNOMIAL), np.uint32(0))
    return np.asarray(table, np.uint32)


@lru_cache(maxsize=1)
def _pair_table() -> U32:
    one = _byte_table()
    first = np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        first = np.asarray(one[first & np.uint32(0xFF)] ^ (first >> np.uint32(8)), np.uint32)
    return first


@lru_cache(maxsize=64)
def _append_zeros(power: int) -> U32:
    """What becomes of each single bit of the register when 2^power zero bytes follow."""
    if power == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        return np.asarray(_byte_table()[bits & np.uint32(0xFF)] ^ (bits >> np.uint32(8)), np.uint32)
    half = _append_zeros(power - 1)
    return _apply(half, half)


def _apply(images: U32, values: U32) -> U32:
    """The linear map that takes bit i to images[i], on each value."""
    bits = (values[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return np.asarray(np.bitwise_xor.reduce(bits * images, axis=1), dtype=np.uint32)

"""Damage to the bytes of an image, by seed: the same seed and sample always give the same damage.

Half of the time the checksums of formats that have them (VHD, VHDX) are made right again, as otherwise the reader would
see little but them.
"""

from __future__ import annotations

import random
import struct

_INTERESTING = (0, 1, 2, 7, 8, 511, 512, 513, 4095, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 40,
                1 << 55, 1 << 56, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # fmt: skip
_EDGE = 4096
_EMPTY = bytes(512)


def mutate(image: bytearray, rng: random.Random, name: str) -> None:
    """Change `image` in one to six places, near structure more often than not."""
    original = bytes(image)
    dense = [at for at in range(0, len(image), 512) if image[at : at + 512] != _EMPTY]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if not image:
            return
        _once(image, rng, dense)
    if rng.random() < 0.5:
        _seal(image, original, name)


def _once(image: bytearray, rng: random.Random, dense: list[int]) -> None:
    at = _place(len(image), rng, dense)
    match rng.randrange(9):
        case 0:
            image[at] ^= 1 << rng.randrange(8)
        case 1:
            image[at] = rng.randrange(256)
        case 2 | 3 | 4:
            width, order = rng.choice((2, 4, 8)), rng.choice(("big", "little"))
            at -= at % width
            value = rng.choice(_INTERESTING) if rng.random() < 0.7 else rng.getrandbits(64)
            image[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)[: len(image) - at]
        case 5:
            width, order = rng.choice((4, 8)), rng.choice(("big", "little"))
            at -= at % width
            value = int.from_bytes(image[at : at + width], order) + rng.choice((-512, -1, 1, 2, 512, 65536))
            image[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)[: len(image) - at]
        case 6:
            length = min(rng.choice((4, 8, 16, 512)), len(image) - at)
            start = _place(len(image), rng, dense)
            image[at : at + length] = image[start : start + length].ljust(length, b"\0")
        case 7:
            length = min(rng.choice((4, 64, 512, 4096)), len(image) - at)
            image[at : at + length] = rng.choice((b"\0", b"\xff")) * length
        case _:
            if rng.random() < 0.5:
                del image[at:]


def _place(size: int, rng: random.Random, dense: list[int]) -> int:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.randrange(min(size, _EDGE))
    if kind == 1:
        return size - 1 - rng.randrange(min(size, _EDGE))
    if kind == 2 and dense:
        return min(size - 1, rng.choice(dense) + rng.randrange(512))
    return rng.randrange(size)


def _seal(image: bytearray, original: bytes, name: str) -> None:
    """Checksums of what was changed are right again."""
    if name == "vpc":
        for at, length, field in ((0, 512, 64), (len(image) - 512, 512, 64), (512, 1024, 36)):
            if at >= 0 and bytes(image[at : at + 8]) in {b"conectix", b"cxsparse"}:
                image[at + field : at + field + 4] = bytes(4)
                image[at + field : at + field + 4] = struct.pack(
                    ">I", ~sum(image[at : at + length]) & 0xFFFFFFFF
                )
    if name == "vhdx":
        for at, length in ((65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536)):
            if len(image) >= at + length and image[at : at + length] != original[at : at + length]:
                image[at + 4 : at + 8] = bytes(4)
                image[at + 4 : at + 8] = struct.pack("<I", crc32c(bytes(image[at : at + length])))


def crc32c(data: bytes) -> int:
    """Castagnoli, RFC 3720 section B.4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_entry(n) for n in range(256)]

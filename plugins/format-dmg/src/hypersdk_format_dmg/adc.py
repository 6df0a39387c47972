"""Apple Data Compression: literals and matches in the last 64 KiB, which only old disk images have."""

from __future__ import annotations

from hypersdk.data.unitcodecs import DecodeError


def decode_adc(blob: bytes, length: int) -> bytes:
    """Exactly `length` bytes. Raises DecodeError."""
    out = bytearray()
    at = 0
    try:
        while at < len(blob) and len(out) <= length:
            code = blob[at]
            if code & 0x80:
                count = (code & 0x7F) + 1
                out += blob[at + 1 : at + 1 + count]
                at += 1 + count
                continue
            if code & 0x40:
                count, distance = (code & 0x3F) + 4, (blob[at + 1] << 8 | blob[at + 2]) + 1
                at += 3
            else:
                count, distance = (code >> 2) + 3, ((code & 3) << 8 | blob[at + 1]) + 1
                at += 2
            start = len(out) - distance
            if start < 0:
                raise DecodeError("a match begins before the chunk")
            match = out[start : start + count]
            out += (match * (count // len(match) + 1))[:count]
    except IndexError as exc:
        raise DecodeError("the data ends within a match") from exc
    if len(out) != length:
        raise DecodeError(f"the data gives {len(out)} of {length} bytes")
    return bytes(out)

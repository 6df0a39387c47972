"""Frames: a 4-byte big-endian length, then that many bytes of one UTF-8 JSON object.

A frame longer than the limit, a length of zero, or a body that is no JSON object ends the connection: after
it nothing in the stream can be trusted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from hypersdk.errors import DataLoss, ResourceExhausted

HEADER = struct.Struct(">I")
MAX_FRAME_BYTES = 8 << 20
"""8 MiB. Bulk bytes never travel in frames; the largest message is a page of 1,000 machines (some 2 MiB)."""


def encode(message: dict[str, Any]) -> bytes:
    """One frame. Raises ResourceExhausted (FRAME_TOO_LARGE); TypeError or ValueError for what JSON has no
    word for."""
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    body = text.encode("utf-8", "surrogatepass")
    if len(body) > MAX_FRAME_BYTES:
        raise ResourceExhausted(
            f"a message of {len(body)} bytes is above the limit of {MAX_FRAME_BYTES}; use smaller pages",
            reason="FRAME_TOO_LARGE",
            retryable=False,
        )
    return HEADER.pack(len(body)) + body


class Decoder:
    """Feed it what arrives; it gives whole messages. Not thread-safe. Unusable after it raised."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self.frame_bytes = 0
        """Of the frame whose message was given last, its length field included."""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Messages completed by `data`. Raises DataLoss (FRAME_INVALID)."""
        self._buffer += data
        position = 0
        try:
            while len(self._buffer) - position >= HEADER.size:
                (length,) = HEADER.unpack_from(self._buffer, position)
                if not 0 < length <= self._limit:
                    text = f"a frame of {length} bytes; allowed are 1 to {self._limit}"
                    raise DataLoss(text, reason="FRAME_INVALID")
                end = position + HEADER.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[position + HEADER.size : end])
                position = end
                self.frame_bytes = HEADER.size + length
                yield _decode(body)
        finally:
            del self._buffer[:position]

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame held back."""
        return len(self._buffer)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise DataLoss(f"a frame that is not JSON: {exc}", reason="FRAME_INVALID") from exc
    if not isinstance(message, dict):
        raise DataLoss("a frame whose body is not a JSON object", reason="FRAME_INVALID")
    return message

"""Random bytes for names, out of the system's generator, many at a time: one call of it costs 13 µs here, ten times as
much as all else that a name needs.

Not for keys and tokens: what was drawn in advance lies in memory (secrets).
"""

from __future__ import annotations

import os
import threading
import time

_DRAWN = 4096
_lock = threading.Lock()
_drawn = b""
_at = 0


def random_bytes(count: int) -> bytes:
    """`count` (≤ 4096) bytes that were given to nobody else. Thread-safe; the kernel never forks."""
    global _drawn, _at  # noqa: PLW0603 - one pool for the process
    with _lock:
        if len(_drawn) - _at < count:
            _drawn, _at = os.urandom(_DRAWN), 0
        out = _drawn[_at : _at + count]
        _at += count
    return out


def new_uuid() -> str:
    """A UUID of version 7 (RFC 9562): milliseconds since the epoch, then 74 random bits. What was made about the same
    time stands together in an index, so that a thousand new rows write a few pages of it and not a thousand."""
    at = time.time_ns() // 1_000_000 & (1 << 48) - 1
    drawn = int.from_bytes(random_bytes(10))
    number = at << 80 | 7 << 76 | (drawn & 0xFFF) << 64 | 0b10 << 62 | drawn >> 18
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

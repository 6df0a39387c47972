"""Random bytes for names, out of the system's generator, many at a time: one call of it costs 13 µs here, ten times as
much as all else that a name needs.

Not for keys and tokens: what was drawn in advance lies in memory (secrets).
"""

from __future__ import annotations

import os
import threading
import uuid

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


def random_uuid() -> str:
    """A UUID of version 4 (RFC 9562)."""
    return str(uuid.UUID(bytes=random_bytes(16), version=4))

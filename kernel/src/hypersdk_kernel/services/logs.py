"""The log of an attempt as a stream: `log.jsonl` in its directory and the full ones before it, one JSON object a line,
still growing or not.

The files are the runner's and are only appended to. They may not exist yet; the last line may be half written, and is
then left until the rest is there. Memory is bounded by one chunk and one line; a longer line is cut away with a line
that says so.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from hypersdk_kernel.services.logfiles import LogFiles

CHUNK_BYTES = 64 << 10
MAX_LINE_BYTES = 256 << 10
POLL_S = 0.25
"""How often a followed log is looked at: a person cannot tell it from at once, and a stat costs 2 µs."""


async def follow(path: Path, ended: Callable[[], Awaitable[bool]] | None) -> AsyncIterator[dict[str, Any]]:
    """Records from the start of the file to its end; with `ended`, on until it says that nobody writes any more."""
    lines = _Lines()
    files = LogFiles(path)
    last_look = ended is None
    try:
        while True:
            chunk = await asyncio.to_thread(files.read, CHUNK_BYTES)
            for line in lines.feed(chunk):
                yield _record(line)
            if chunk:
                continue
            if last_look or ended is None:
                return
            # One more look after the end: what was written between our last read and the end is still to come.
            last_look = await ended()
            if not last_look:
                await asyncio.sleep(POLL_S)
    finally:
        files.close()


class _Lines:
    """Whole lines out of chunks."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            line, self._rest = self._rest + line, b""
            if self._skipping:
                self._skipping = False
            else:
                yield line
        if self._skipping:
            return
        self._rest += rest
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._skipping = b"", True
            yield json.dumps({"level": "warning", "event": "line_skipped", "limit_bytes": MAX_LINE_BYTES}).encode()


def _record(line: bytes) -> dict[str, Any]:
    """The line's object; text that is none becomes one, because a plugin may have written it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if isinstance(record, dict):
        return record
    return {"level": "warning", "event": "line_unreadable", "text": line[:1000].decode("utf-8", "replace")}

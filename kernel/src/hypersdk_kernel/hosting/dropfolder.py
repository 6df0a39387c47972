"""`plugins.d/`: a wheel that is put there is installed and swapped to.

Notifications are a hint: they come before a copy is complete, and not at all for a watched symbolic link or below an
overlay. So a file is acted on when it is a whole wheel that was not seen with this content before, whoever told of it,
and the folder is looked through every 30 s in any case. The way to put a file there that is never seen half-written
is to copy it under another name and rename it; a half-written one is no zip archive, and is looked at again when it
has changed.

A file that is taken away does nothing: what is installed stays until it is uninstalled. A build that is known already,
at a restart of the kernel above all, is not activated again: an operator may have decided otherwise since.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import HyperError, from_exception
from hypersdk.signing import SUFFIX
from watchfiles import awatch

log = structlog.get_logger(__name__)

RESCAN_S = 30.0
_STEP_MS, _DEBOUNCE_MS = 10, 50
"""From a rename to our knowing it 13 ms; watchfiles' defaults take 50 and 1,600."""


class DropFolder:
    """Watches `folder`. Its life: `run`, until it is cancelled.

    install  takes a wheel into use; what it raises is logged and the file left alone until it changes
    refused  hears of that too
    """

    def __init__(
        self,
        folder: Path,
        install: Callable[[Path], Awaitable[object]],
        refused: Callable[[Path, HyperError], None] = lambda _wheel, _error: None,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._folder = folder
        self._install = install
        self._refused = refused
        self._rescan_s = rescan_s
        self._seen: dict[str, tuple[int, int, int, int]] = {}
        self._digests: dict[str, str] = {}

    async def run(self) -> None:
        """Install what is there and what comes."""
        changes = awatch(
            self._folder, step=_STEP_MS, debounce=_DEBOUNCE_MS, recursive=False,
            rust_timeout=int(self._rescan_s * 1000), yield_on_timeout=True,
        )  # fmt: skip
        async with contextlib.aclosing(changes):
            news = asyncio.ensure_future(anext(changes))
            try:
                await asyncio.sleep(0)  # in its first step it begins to watch: what comes from now on is told
                while True:
                    await self.scan()
                    await news
                    news = asyncio.ensure_future(anext(changes))
            finally:
                news.cancel()
                await asyncio.gather(news, return_exceptions=True)

    async def scan(self) -> None:
        """Look at every wheel; install those that are new."""
        for path in await asyncio.to_thread(self._changed):
            await self._take(path)

    async def _take(self, path: Path) -> None:
        try:
            digest = await asyncio.to_thread(_digest, path)
            if self._digests.get(path.name) == digest:
                return
            await self._install(path)
        except (HyperError, OSError) as exc:
            error = from_exception(exc, doing=f"installing {path.name}")
            log.warning("dropped_wheel_refused", wheel=path.name, reason=error.reason, error=error.message)
            self._refused(path, error)
            return
        self._digests[path.name] = digest
        log.info("dropped_wheel_installed", wheel=path.name)

    def _changed(self) -> list[Path]:
        """Wheels whose size, time, inode or signature is another than when they were last looked at, in order of
        name."""
        out = []
        for path in sorted(self._folder.glob("*.whl")):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            signed = _age_of(path.with_name(path.name + SUFFIX))
            mark = (found.st_size, found.st_mtime_ns, found.st_ino, signed)
            if path.is_file() and self._seen.get(path.name) != mark:
                self._seen[path.name] = mark
                out.append(path)
        return out


def _age_of(signature: Path) -> int:
    """Changes when the wheel's signature comes, or is another; it may come after the wheel."""
    try:
        return signature.stat().st_mtime_ns
    except OSError:
        return 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        found: Any = hashlib.file_digest(file, "sha256")
    return str(found.hexdigest())

"""Editable plugins in development: a saved file is served a moment later.

A notification is a hint, as it is for plugins.d: it says that something below a plugin's packages has changed, and
comes several times for one save. So after a quiet moment the plugin is read again, and swapped to only when its digest
is another; every 30 s all are read in any case. An edit that does not serve leaves what served before in its place: the
reason is the event `plugin.failed`. It is tried again when the files have changed again, not before.

Generations that a day of editing leaves behind are removed but for the last few (`tidy`).

Not here: swapping (lifecycle). Installed builds never change, and what is bundled only with the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path

import structlog
from hypersdk.errors import HyperError
from watchfiles import awatch

from hypersdk_kernel.hosting.discovery import source_folders
from hypersdk_kernel.hosting.sourcetree import PROJECT
from hypersdk_kernel.model.plugin import Generation, Plugin

log = structlog.get_logger(__name__)

RESCAN_S = 30.0
_STEP_MS, _DEBOUNCE_MS = 20, 200
"""An editor that saves ten files at once, or a checkout, is one change when no file of it is 20 ms behind another."""


class SourceWatcher:
    """Reloads plugins whose files change. Its life: `run`, until it is cancelled.

    plugins  all of the registry
    find     as discovery.discover, with the time left out: the plugins as their files are now
    reload   (plugin id); what it raises is logged, and not tried again until the files are others
    tidy     (plugin id), after each reload
    trees    source folders: their pyproject.toml is watched too
    """

    def __init__(
        self,
        plugins: Callable[[], list[Plugin]],
        find: Callable[[], list[Plugin]],
        reload: Callable[[str], Awaitable[object]],
        tidy: Callable[[str], Awaitable[object]],
        trees: Iterable[Path] = (),
        rescan_s: float = RESCAN_S,
    ) -> None:
        self._plugins = plugins
        self._find = find
        self._reload = reload
        self._tidy = tidy
        self._trees = [tree for tree in trees if tree.is_dir()]
        self._rescan_s = rescan_s
        self._tried: dict[str, str] = {}

    async def run(self) -> None:
        """Reload what has changed and what changes."""
        while True:
            folders = await asyncio.to_thread(self._folders)
            async with contextlib.aclosing(self._changes([path for path, _ in folders])) as changes:
                news = asyncio.ensure_future(anext(changes))
                try:
                    await asyncio.sleep(0)  # in its first step it begins to watch: what comes from now on is told
                    while True:
                        await self.scan()
                        if await asyncio.to_thread(self._folders) != folders:
                            break  # other folders, or others under their names: a watch holds on to what it was given
                        await news
                        news = asyncio.ensure_future(anext(changes))
                finally:
                    news.cancel()
                    await asyncio.gather(news, return_exceptions=True)

    async def scan(self) -> None:
        """Look at every editable plugin; reload those whose files are others than those that serve."""
        found = await asyncio.to_thread(self._digests)
        for plugin in self._plugins():
            digest = found.get(plugin.distribution)
            if digest and self._is_news(plugin, digest):
                await self._take(plugin, digest)

    def _is_news(self, plugin: Plugin, digest: str) -> bool:
        if not _watched(plugin):
            return False
        active = plugin.active
        if active is not None and active.digest == digest:
            self._tried.pop(plugin.id, None)
            return not active.present  # edits that did not serve were taken back
        return self._tried.get(plugin.id) != digest

    async def _take(self, plugin: Plugin, digest: str) -> None:
        self._tried[plugin.id] = digest
        try:
            await self._reload(plugin.id)
            await self._tidy(plugin.id)
        except HyperError as exc:
            log.warning("plugin_reload_failed", plugin=plugin.id, reason=exc.reason, error=exc.message)

    def _digests(self) -> dict[str, str]:
        """Of the files as they are now, by distribution."""
        importlib.invalidate_caches()
        return {p.distribution: p.generations[0].digest for p in self._find()}

    def _folders(self) -> list[tuple[Path, int]]:
        """Packages of editable plugins, with their inodes."""
        found = {f for p in self._plugins() if _watched(p) for f in source_folders(_latest(p))}
        out = []
        for folder in sorted(found):
            with contextlib.suppress(FileNotFoundError):
                out.append((folder, folder.stat().st_ino))
        return out

    async def _changes(self, folders: list[Path]) -> AsyncGenerator[None, None]:
        """One item a burst of changes, and one each `rescan_s`."""
        woken = asyncio.Event()

        async def watch(paths: list[Path], *, recursive: bool) -> None:
            counts = _is_source if recursive else _is_project
            async for _ in awatch(
                *paths, watch_filter=counts, step=_STEP_MS, debounce=_DEBOUNCE_MS, recursive=recursive
            ):
                woken.set()

        kinds = [(folders, True), (self._trees, False)]
        watching = [asyncio.ensure_future(watch(paths, recursive=deep)) for paths, deep in kinds if paths]
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._rescan_s):
                        await woken.wait()
                woken.clear()
                yield
        finally:
            for task in watching:
                task.cancel()
            for outcome in await asyncio.gather(*watching, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.warning("source_watch_failed", error=str(outcome))  # the rescan goes on


def _is_source(_change: object, path: str) -> bool:
    """What Python and editors write for themselves is no change; whether another file counts, the digest tells."""
    name = path.rpartition("/")[2]
    return "/__pycache__/" not in path and not name.endswith((".pyc", ".swp", "~"))


def _is_project(_change: object, path: str) -> bool:
    return path.rpartition("/")[2] == PROJECT


def _latest(plugin: Plugin) -> Generation:
    return plugin.active or plugin.generations[-1]


def _watched(plugin: Plugin) -> bool:
    """Whether its files decide: not when an installed build covers them."""
    return _latest(plugin).origin == "editable"

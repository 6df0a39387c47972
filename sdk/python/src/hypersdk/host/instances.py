"""Instances: what a host keeps between calls.

A provider, storage, notifier or executor belongs to a connection: created at the first call, configured once, kept.
When the connection's configuration or secrets change, the next call makes a new one; the old one is closed when the
calls in it have ended. Formats and tasks have no connection: one instance each.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hypersdk.errors import InvalidArgument, from_exception
from hypersdk.plugin.loading import create

MAX_IDLE = 64
"""Configured instances kept beside those in use; the longest unused is closed first."""

CONNECTED_KINDS = frozenset({"provider", "storage", "notifier", "secrets", "executor"})


class _Entry:
    """An instance in the making or made, and how many calls use it."""

    def __init__(self, settings: tuple[Any, Any]) -> None:
        self.settings = settings
        self.instance: Any = None
        self.users = 0
        self.retired = False
        self.lock = threading.Lock()


class Instances:
    """Keyed by component and connection name. Thread-safe; making one blocks only the calls that need that
    one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    @contextmanager
    def lease(self, component: str, cls: type[Any], connection: Mapping[str, Any] | None) -> Iterator[Any]:
        """The configured instance for one call. Raises InvalidArgument (CONNECTION_REQUIRED), and what the
        plugin's `configure` raises; then nothing is kept."""
        kind = component.partition("/")[0]
        connected = kind in CONNECTED_KINDS or (kind == "service" and connection is not None)
        if connected and connection is None:
            raise InvalidArgument(f"{component} is called without a connection", reason="CONNECTION_REQUIRED")
        settings = connection if connected and connection is not None else {}
        key = (component, str(settings.get("name", "")))
        entry = self._enter(key, (dict(settings.get("config") or {}), dict(settings.get("secrets") or {})))
        try:
            with entry.lock:
                if entry.instance is None:
                    instance = create(component, cls)
                    if connected:
                        instance.configure(*entry.settings)
                    entry.instance = instance
            yield entry.instance
        finally:
            self._leave(key, entry)

    def _enter(self, key: tuple[str, str], settings: tuple[Any, Any]) -> _Entry:
        with self._lock:
            entry = self._entries.pop(key, None)
            old = None
            if entry is None or entry.settings != settings:
                if entry is not None:
                    entry.retired = True
                    old = entry if entry.users == 0 else None
                entry = _Entry(settings)
            self._entries[key] = entry  # at the end: the dict is in order of last use
            entry.users += 1
        if old is not None:
            _close(key, old)
        return entry

    def _leave(self, key: tuple[str, str], entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.instance is None and entry.users == 0 and not entry.retired:
                self._retire(key, entry)  # it could not be made: the next call tries again
            unused = [(key, entry)] if entry.retired and entry.users == 0 else []
            idle = [(k, e) for k, e in self._entries.items() if e.users == 0]
            for old_key, old in idle[: max(0, len(idle) - MAX_IDLE)]:
                self._retire(old_key, old)
                unused.append((old_key, old))
        for closing_key, closing in unused:
            _close(closing_key, closing)

    def _retire(self, key: tuple[str, str], entry: _Entry) -> None:
        entry.retired = True
        if self._entries.get(key) is entry:
            del self._entries[key]

    def close(self) -> None:
        """Close all that no call uses, before the process ends."""
        with self._lock:
            entries = [(k, e) for k, e in self._entries.items() if e.users == 0]
            self._entries.clear()
        for key, entry in entries:
            _close(key, entry)


def _close(key: tuple[str, str], entry: _Entry) -> None:
    instance, entry.instance = entry.instance, None
    close = getattr(instance, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException as exc:  # noqa: BLE001 - no caller is concerned; the line is for the plugin's author
        print(f"{key[0]}: close() raised {from_exception(exc).message}", file=sys.stderr)  # noqa: T201

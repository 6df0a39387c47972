"""Keeper: one unit for each connection to a service component that is to run, from the store's point of view.

It looks at the store when it starts, and again after every commit that touched connections or plugins. Not here: what a
unit does with its process (unit).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from hypersdk.errors import NotFound

from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.engine.unit import Unit
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.model.plugin import ServiceStatus

KIND = "service"
ENABLED = "hypersdk.dev/enabled"
"""The label by which a service connection is switched off: `false`."""


class Keeper:
    """Its life: `start`, `close`. `on_commit` is hung into the store.

    new_unit  a unit for the connection of that name
    """

    def __init__(self, connections: Connections, new_unit: Callable[[str], Unit]) -> None:
        self._connections = connections
        self._new_unit = new_unit
        self._units: dict[str, Unit] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())
        self._changed.set()

    def on_commit(self, events: Sequence[Event]) -> None:
        if any(event.type.startswith(("connection.", "plugin.")) for event in events):
            self._changed.set()

    def status(self, plugin_components: frozenset[str]) -> list[ServiceStatus]:
        """Of the units of these components, in order of connection."""
        found = [unit.status() for _, unit in sorted(self._units.items())]
        return [status for status in found if status.component in plugin_components]

    async def close(self) -> None:
        """All processes are asked to end, at once; returns when they have."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(unit.stop() for unit in self._units.values()), return_exceptions=True)
        self._units.clear()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._look()

    async def _look(self) -> None:
        wanted = set()
        for name in await self._connections.names(KIND):
            try:
                connection = await self._connections.get(id_of(name, "connections"))
            except NotFound:  # deleted in this moment
                continue
            if connection.labels.get(ENABLED) == "false":
                continue
            wanted.add(name)
            if name not in self._units:
                self._units[name] = self._new_unit(name)
            self._units[name].want(connection)
        gone = self._units.keys() - wanted
        await asyncio.gather(*(self._units[name].stop() for name in gone))
        for name in gone:
            del self._units[name]

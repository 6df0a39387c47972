"""WatchPlugins: the plugins as they are, then every change, from the event log.

A message carries the plugin as it is when the message is sent, which may be later than the change it tells of; its
`type` and `generation` say what the change was.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from hypersdk.api.plugins.v1 import plugins_pb2 as pb

from hypersdk_kernel.events.bus import Bus
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.plugin import Plugin
from hypersdk_kernel.services.pluginviews import Hosts, Pinned, plugin_message
from hypersdk_kernel.services.values import timestamp


class Plugins(Protocol):
    """hosting.registry.Registry, as far as this stream needs it."""

    def plugins(self) -> list[Plugin]: ...


class PluginWatcher:
    """Serves any number of streams. `heartbeat_s`: a silent one says that it lives, seconds."""

    def __init__(self, registry: Plugins, hosts: Hosts, pinned: Pinned, bus: Bus, heartbeat_s: float) -> None:
        self._pinned = pinned
        self._registry = registry
        self._hosts = hosts
        self._bus = bus
        self._heartbeat_s = heartbeat_s

    async def stream(self, request: pb.WatchPluginsRequest) -> AsyncIterator[pb.WatchPluginsResponse]:
        """Raises what Subscription.next raises."""
        subscription = self._bus.subscribe(request.since_revision or None, _is_of_plugin)
        try:
            if request.since_revision == 0:
                pinned = await self._pinned()
                for plugin in self._registry.plugins():
                    yield pb.WatchPluginsResponse(plugin=plugin_message(plugin, self._hosts, pinned))
            yield pb.WatchPluginsResponse(revision=subscription.position)
            while True:
                started = time.monotonic()
                event = await subscription.next(self._heartbeat_s)
                if event is not None:
                    yield self._change(event, await self._pinned())
                elif time.monotonic() - started >= self._heartbeat_s / 2:
                    yield pb.WatchPluginsResponse(revision=subscription.position)
        finally:
            subscription.close()

    def _change(self, event: Event, pinned: Mapping[str, int]) -> pb.WatchPluginsResponse:
        name = event.subject.partition("/generations/")[0]
        plugin = next((p for p in self._registry.plugins() if p.name == name), None)
        return pb.WatchPluginsResponse(
            revision=event.revision,
            plugin=None if plugin is None else plugin_message(plugin, self._hosts, pinned),
            type=event.type,
            generation=event.subject,
            message=str(event.payload.get("message", "")),
            time=timestamp(event.time),
        )


def _is_of_plugin(event: Event) -> bool:
    return event.type.startswith("plugin.")

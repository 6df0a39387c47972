"""PluginService."""

from __future__ import annotations

from typing import Protocol

from hypersdk.api.plugins.v1 import plugins_pb2 as pb
from hypersdk.errors import FailedPrecondition, HyperError
from hypersdk.plugin.manifest import ComponentManifest

from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.model.plugin import Generation, GenerationState, HostState, HostStatus, Plugin
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.values import duration, struct, timestamp

_STATES = {state: pb.GenerationState.Value(f"GENERATION_STATE_{state.name}") for state in GenerationState}
_HOST_STATES = {state: pb.HostState.Value(f"HOST_STATE_{state.name}") for state in HostState}


class Registry(Protocol):
    """hosting.registry.Registry, as far as this service needs it."""

    def plugin(self, plugin_id: str) -> Plugin: ...

    def plugins(self) -> list[Plugin]: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as this service needs it."""

    def status(self, generation: Generation) -> HostStatus: ...

    async def ping(self, generation: Generation) -> float: ...


class PluginService(Service):
    """Tells which plugins are installed and how their hosts fare."""

    descriptor = pb.DESCRIPTOR.services_by_name["PluginService"]

    def __init__(self, registry: Registry, hosts: Hosts) -> None:
        self._registry = registry
        self._hosts = hosts

    async def get_plugin(self, request: pb.GetPluginRequest, _call: Call) -> pb.Plugin:
        return self._message(self._registry.plugin(id_of(request.name, "plugins")))

    async def list_plugins(self, request: pb.ListPluginsRequest, _call: Call) -> pb.ListPluginsResponse:
        size = pages.page_size(request.page_size)
        key = pages.key_of(request.page_token, (str,), "plugins")
        after = key[0] if key else ""
        rows = [p for p in sorted(self._registry.plugins(), key=lambda p: p.id) if p.id > after]
        page, token = pages.cut(rows, size, lambda plugin: pages.token((plugin.id,), "plugins"))
        return pb.ListPluginsResponse(plugins=[self._message(p) for p in page], next_page_token=token)

    async def check_plugin_health(
        self, request: pb.CheckPluginHealthRequest, _call: Call
    ) -> pb.CheckPluginHealthResponse:
        plugin = self._registry.plugin(id_of(request.name, "plugins"))
        if plugin.active is None:
            raise FailedPrecondition(
                f"no generation of {plugin.name} could be activated; `hyperctl plugin get {plugin.id}` says why",
                reason="PLUGIN_INACTIVE",
                metadata={"name": plugin.name},
            )
        out = pb.CheckPluginHealthResponse()
        try:
            out.latency.CopyFrom(duration(await self._hosts.ping(plugin.active)))
            out.ok = True
        except HyperError as exc:
            out.message = exc.message
        out.host.CopyFrom(_host_message(self._hosts.status(plugin.active)))
        return out

    def _message(self, plugin: Plugin) -> pb.Plugin:
        active = plugin.active
        return pb.Plugin(
            name=plugin.name,
            distribution=plugin.distribution,
            summary=plugin.summary,
            active_generation=None if active is None else self._generation_message(active),
            generations=[self._generation_message(generation) for generation in plugin.generations],
        )

    def _generation_message(self, generation: Generation) -> pb.Generation:
        components = generation.manifest.components.values() if generation.manifest is not None else ()
        return pb.Generation(
            name=generation.name,
            version=generation.version,
            digest=generation.digest,
            api_version=generation.api_version,
            state=_STATES[generation.state],
            failure_reason=generation.failure_reason,
            failure_message=generation.failure_message,
            activate_time=None if generation.activate_time is None else timestamp(generation.activate_time),
            components=[_component_message(component) for component in components],
            host=_host_message(self._hosts.status(generation)),
            origin=generation.origin,
        )


def _component_message(component: ComponentManifest) -> pb.Component:
    return pb.Component(
        name=component.name,
        summary=component.summary,
        capabilities=sorted(component.capabilities),
        concurrency=component.concurrency,
        config_schema=struct(component.config_schema),
        spec_schema=struct(component.spec_schema),
    )


def _host_message(status: HostStatus) -> pb.HostStatus:
    return pb.HostStatus(
        state=_HOST_STATES[status.state],
        pid=status.pid,
        start_time=None if status.start_time is None else timestamp(status.start_time),
        restart_count=status.restart_count,
        call_count=status.call_count,
        error_count=status.error_count,
        in_flight_count=status.in_flight_count,
        resident_bytes=status.resident_bytes,
        last_error=status.last_error,
    )

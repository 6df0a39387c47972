"""Plugins and generations as messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from hypersdk.api.plugins.v1 import plugins_pb2 as pb
from hypersdk.plugin.manifest import ComponentManifest

from hypersdk_kernel.model.plugin import (
    ConfinementState,
    Generation,
    GenerationState,
    HostState,
    HostStatus,
    Plugin,
    Provenance,
    ServiceStatus,
)
from hypersdk_kernel.services.values import struct, timestamp

_STATES = {state: pb.GenerationState.Value(f"GENERATION_STATE_{state.name}") for state in GenerationState}
_CONFINEMENTS = {
    state: pb.ConfinementState.Value(f"CONFINEMENT_STATE_{state.name}") for state in ConfinementState
}
_HOST_STATES = {state: pb.HostState.Value(f"HOST_STATE_{state.name}") for state in HostState}


Pinned = Callable[[], Awaitable[Mapping[str, int]]]
"""hosting.ledger.Ledger.pin_counts."""


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as messages need it."""

    def status(self, generation: Generation) -> HostStatus: ...

    async def ping(self, generation: Generation) -> float: ...


def plugin_message(plugin: Plugin, hosts: Hosts, pinned: Mapping[str, int]) -> pb.Plugin:
    """With how the host of each generation fares right now. `pinned`: digest → jobs that hold it."""
    active = plugin.active
    return pb.Plugin(
        name=plugin.name,
        distribution=plugin.distribution,
        summary=plugin.summary,
        active_generation=None if active is None else generation_message(active, hosts, pinned),
        generations=[generation_message(generation, hosts, pinned) for generation in plugin.generations],
    )


def generation_message(generation: Generation, hosts: Hosts, pinned: Mapping[str, int]) -> pb.Generation:
    since = generation.state_time or generation.install_time
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
        host=host_message(hosts.status(generation)),
        origin=generation.origin,
        install_time=timestamp(generation.install_time) if generation.install_time else None,
        present=generation.present,
        provenance=_provenance_message(generation.provenance),
        canary_percent=generation.canary_percent,
        pinned_job_count=pinned.get(generation.digest, 0),
        state_time=timestamp(since) if since else None,
    )


def _provenance_message(origin: Provenance) -> pb.Provenance | None:
    if not origin.via:
        return None
    return pb.Provenance(
        via=origin.via, source=origin.source, sha256=origin.sha256, signer=origin.signer, actor=origin.actor
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


def service_message(status: ServiceStatus) -> pb.ServiceStatus:
    return pb.ServiceStatus(
        connection=status.connection,
        component=status.component,
        generation=status.generation,
        state=_HOST_STATES[status.state],
        pid=status.pid,
        start_time=None if status.start_time is None else timestamp(status.start_time),
        restart_count=status.restart_count,
        resident_bytes=status.resident_bytes,
        addresses=status.addresses,
        last_error=status.last_error,
    )


def host_message(status: HostStatus) -> pb.HostStatus:
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
        confinement=[
            pb.Confinement(mechanism=row.mechanism, state=_CONFINEMENTS[row.state], detail=row.detail)
            for row in status.confinement
        ],
    )

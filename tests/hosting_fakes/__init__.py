"""Generations, components and pools for tests of hypersdk_kernel.hosting, around a host that misbehaves on demand."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from hypersdk.plugin.manifest import ComponentManifest, Manifest, MethodPolicy
from hypersdk_kernel.hosting.backoff import BackoffPolicy
from hypersdk_kernel.hosting.host_process import HostPolicy
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, GenerationState, Plugin

FAKE_HOST = Path(__file__).with_name("fake_host.py")
QUICK = HostPolicy(
    command=(sys.executable, "-I", FAKE_HOST),
    start_s=5.0,
    heartbeat_s=5.0,
    heartbeat_timeout_s=5.0,
    stop_s=0.3,
    backoff=BackoffPolicy(first_delay_s=0.001, max_delay_s=0.01, cool_down_s=0.2),
)


def make_component(
    name: str = "task/fake",
    *,
    mode: str = "ok",
    plugin: str = "fake",
    concurrency: str = "parallel",
    config_schema: dict | None = None,
    capabilities: frozenset[str] = frozenset(),
    aliases: tuple[str, ...] = (),
    methods: dict[str, MethodPolicy] | None = None,
    state: GenerationState = GenerationState.ACTIVE,
) -> ActiveComponent:
    kind, _, component_id = name.partition("/")
    declared = ComponentManifest(
        kind=kind, id=component_id, aliases=aliases, concurrency=concurrency, methods=methods or {},
        config_schema=config_schema or {}, capabilities=capabilities,
    )
    manifest = Manifest(f"hypersdk-{plugin}", (1, 0), f"The plugin {plugin}", {name: declared})
    generation = Generation(
        plugin_id=plugin,
        number=1,
        distribution=f"hypersdk-{plugin}",
        version="1.0",
        digest=plugin.encode().hex(),
        origin="bundled",
        state=state,
        entries={name: f"fake:{mode}"},
        manifest=manifest,
    )
    return ActiveComponent(declared, generation)


def make_plugin(component: ActiveComponent) -> Plugin:
    generation = component.generation
    return Plugin(generation.plugin_id, generation.distribution, "", (generation,))


def make_pool(**changes) -> HostPool:
    return HostPool(ManualClock(), dict, replace(QUICK, **changes))


async def eventually(condition, timeout_s: float = 5.0) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)

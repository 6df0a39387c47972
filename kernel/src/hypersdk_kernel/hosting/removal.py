"""The end of generations: uninstalled, or collected as garbage.

What a job that has not ended is pinned to stays. Files go when nothing runs from them any more, and not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from hypersdk.errors import FailedPrecondition

from hypersdk_kernel.hosting.install import PluginStore
from hypersdk_kernel.hosting.ledger import KERNEL, Ledger
from hypersdk_kernel.hosting.lifecycle import Lifecycle
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.store.requests import RequestKey

_IN_USE = frozenset(
    {GenerationState.ACTIVE, GenerationState.CANARY, GenerationState.PROBING, GenerationState.DRAINING}
)


class Removal:
    """Takes generations out of registry, store and disk."""

    def __init__(
        self, lifecycle: Lifecycle, ledger: Ledger, builds: PluginStore, registry: Registry, hosts: HostPool
    ) -> None:
        self._lifecycle = lifecycle
        self._ledger = ledger
        self._builds = builds
        self._registry = registry
        self._hosts = hosts
        self._collecting = asyncio.Lock()

    async def uninstall(
        self,
        plugin_id: str,
        number: int | None,
        *,
        actor: str,
        validate_only: bool = False,
        key: RequestKey | None = None,
    ) -> None:
        """Remove an installed generation, or without `number` all that were installed of the plugin; then what
        the daemon's environment has of it takes over, if it has. Raises NotFound (PLUGIN_NOT_FOUND,
        GENERATION_NOT_FOUND), FailedPrecondition (PLUGIN_BUNDLED, GENERATION_ACTIVE, GENERATION_PINNED)."""
        async with self._lifecycle.locks[plugin_id]:
            if await self._ledger.answered(key):
                return
            plugin = self._registry.plugin(plugin_id)
            if number is None:
                gone = [g for g in plugin.generations if g.origin == "installed"]
            else:
                gone = [self._lifecycle.generation(plugin_id, number)]
            await self._check(plugin, gone, whole=number is None)
            if validate_only:
                return
            if plugin.active in gone:
                await self._replace_active(plugin, gone, actor)
            elif plugin.canary in gone:
                self._lifecycle.swap.withdraw_canary(plugin_id)
            await self._forget(plugin_id, gone, actor, key)

    async def collect_garbage(
        self, *, actor: str, validate_only: bool = False, key: RequestKey | None = None
    ) -> list[str]:
        """Remove the generations that are neither active, nor the previous one of their plugin, nor pinned by a job
        that has not ended, nor installed and never tried. The names of those removed."""
        async with self._collecting:
            known = await self._ledger.listed(key)
            if known is not None:
                return known
            removed = await self._collect(actor, validate_only)
            if not validate_only:
                await self._ledger.remember(key, removed)
            return removed

    async def _collect(self, actor: str, validate_only: bool) -> list[str]:
        pinned = await self._ledger.pinned()
        removed: list[str] = []
        for plugin_id in [p.id for p in self._registry.plugins()]:
            async with self._lifecycle.locks[plugin_id]:
                plugin = self._registry.plugin(plugin_id)
                gone = [g for g in plugin.generations if g.digest not in pinned and _is_garbage(plugin, g)]
                if gone and not validate_only:
                    await self._forget(plugin_id, gone, actor, None)
                removed += [generation.name for generation in gone]
        return removed

    async def tidy(self, plugin_id: str, keep: int = 8) -> None:
        """Of what `collect_garbage` would remove of one plugin, remove all but the last `keep` generations."""
        if len(self._registry.plugin(plugin_id).generations) <= keep:
            return
        pinned = await self._ledger.pinned()
        async with self._lifecycle.locks[plugin_id]:
            plugin = self._registry.plugin(plugin_id)
            gone = [g for g in plugin.generations if g.digest not in pinned and _is_garbage(plugin, g)][:-keep]
            if gone:
                await self._forget(plugin_id, gone, KERNEL, None)

    async def _check(self, plugin: Plugin, gone: Sequence[Generation], *, whole: bool) -> None:
        if not gone or any(g.origin != "installed" for g in gone):
            raise FailedPrecondition(
                f"{plugin.name} is part of the daemon's own environment; only installed generations can be uninstalled",
                reason="PLUGIN_BUNDLED",
                metadata={"plugin": plugin.name},
            )
        if not whole and gone[0].state in {GenerationState.ACTIVE, GenerationState.CANARY}:
            raise FailedPrecondition(
                f"{gone[0].name} is {gone[0].state.value}; activate another generation first, or uninstall the whole "
                "plugin",
                reason="GENERATION_ACTIVE",
                metadata={"generation": gone[0].name},
            )
        pinned = await self._ledger.pinned()
        held = [(g, pinned[g.digest]) for g in gone if g.digest in pinned]
        if held:
            raise FailedPrecondition(
                f"{held[0][0].name} is what {held[0][1]} runs with; wait for the job, or cancel it",
                reason="GENERATION_PINNED",
                metadata={"generation": held[0][0].name, "job": held[0][1]},
            )

    async def _replace_active(self, plugin: Plugin, gone: Sequence[Generation], actor: str) -> None:
        stays = [g for g in plugin.generations if g not in gone and g.runnable]
        if stays:
            await self._lifecycle.put_in_place(stays[-1], actor, None)
        else:
            self._lifecycle.swap.withdraw(self._registry.plugin(plugin.id))

    async def _forget(
        self, plugin_id: str, gone: Sequence[Generation], actor: str, key: RequestKey | None
    ) -> None:
        await self._ledger.forget(gone, actor, key)
        plugin = self._registry.plugin(plugin_id)
        numbers = {g.number for g in gone}
        stays = tuple(g for g in plugin.generations if g.number not in numbers)
        if stays:
            self._registry.put(replace(plugin, generations=stays))
        else:
            self._registry.remove(plugin_id)
        for generation in gone:
            self._ledger.spawn(self._bury(generation))

    async def _bury(self, generation: Generation) -> None:
        await self._lifecycle.swap.drained(generation)
        await self._hosts.drain(generation)
        again = any(
            g.digest == generation.digest and g.origin == "installed"
            for p in self._registry.plugins() if p.id == generation.plugin_id for g in p.generations
        )  # fmt: skip
        if generation.origin == "installed" and not again:
            await asyncio.to_thread(self._builds.remove, generation)


def _is_garbage(plugin: Plugin, generation: Generation) -> bool:
    never_tried = generation.state is GenerationState.INSTALLED and generation.activate_time is None
    return generation.state not in _IN_USE and generation != plugin.previous and not never_tried

"""The life of generations: installed, activated, rolled back, reloaded. One operation a plugin at a time.

Not here: how a swap goes (swap), what a build on disk is (install), what is written down (ledger), their end (removal).
"""

from __future__ import annotations

import asyncio
import importlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypersdk.errors import FailedPrecondition, FieldViolation, HyperError, InvalidArgument, NotFound
from packaging.requirements import InvalidRequirement, Requirement

from hypersdk_kernel.hosting.discovery import discover, normalize, plugin_id_of
from hypersdk_kernel.hosting.install import Build, PluginStore
from hypersdk_kernel.hosting.ledger import Ledger
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.hosting.swap import Swap, SwapPolicy
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.store.requests import RequestKey


class Lifecycle:
    """What PluginService and the watched folder ask for. Its life: any number of operations, then `close`.

    locks  by plugin id; held by every operation that changes the plugin
    """

    def __init__(
        self,
        ledger: Ledger,
        builds: PluginStore,
        registry: Registry,
        hosts: HostPool,
        clock: Clock,
        policy: SwapPolicy | None = None,
        find: Callable[[float], list[Plugin]] = discover,
    ) -> None:
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ledger = ledger
        self._builds = builds
        self._registry = registry
        self._hosts = hosts
        self._clock = clock
        self._find = find
        self.swap = Swap(registry, hosts, clock, policy or SwapPolicy(), ledger.note)
        for plugin in registry.plugins():
            self.swap.resume_canary(plugin)

    async def install(
        self,
        source: Path | str,
        *,
        actor: str,
        activate: bool = True,
        only_new: bool = False,
        validate_only: bool = False,
        key: RequestKey | None = None,
        signature: bytes = b"",
        via: str = "path",
    ) -> Plugin:
        """Take a wheel (a path) or a named plugin (a requirement) into the store and, if `activate`, into use; if
        `only_new`, a build that is known stays as it is. `signature`: what the wheel's signature file holds, if it is
        not beside it; `via`: how a wheel came, for its provenance. Raises
        as PluginStore.add_wheel and add_named, and as `activate`; FailedPrecondition (COMPONENT_CONFLICT)."""
        known = await self._ledger.recall(key)
        if known is not None:
            return known
        build = await asyncio.to_thread(self._add, source, signature, keep=not validate_only)
        plugin_id = self._id_of(build.generation.distribution)
        async with self.locks[plugin_id]:
            known = await self._ledger.recall(key)  # again: it may have come twice at once
            if known is not None:
                return known
            origin = replace(build.generation.provenance, actor=actor)
            if origin.via == "path":
                origin = replace(origin, via=via)
            generation = replace(build.generation, plugin_id=plugin_id, provenance=origin)
            twin = self._twin(generation)
            try:
                self._registry.check_conflict(generation)
            except FailedPrecondition:
                if twin is None and not validate_only:
                    await asyncio.to_thread(self._builds.remove, generation)
                raise
            if validate_only:
                return self._plugin_with(build, twin or generation)
            if only_new and twin is not None:
                return self._registry.plugin(plugin_id)
            if twin is None or not twin.runnable:
                twin = await self._take_in(build, generation, twin, actor)
            if activate:
                return await self.put_in_place(twin, actor, key)
            return await self._ledger.record(plugin_id, actor, key=key)

    async def activate(
        self,
        plugin_id: str,
        number: int,
        *,
        actor: str,
        canary_percent: int = 0,
        validate_only: bool = False,
        key: RequestKey | None = None,
    ) -> Plugin:
        """Swap to a generation; with `canary_percent` (1 to 99) give it that share beside the active one, until it is
        activated or withdrawn. To the active one: withdraw the canary. Raises NotFound, FailedPrecondition
        (GENERATION_GONE, COMPONENT_CONFLICT, CANARY_REFUSED, HOST_START_FAILED, PLUGIN_SELF_CHECK_FAILED); then the old
        one serves as if nothing had been."""
        async with self.locks[plugin_id]:
            known = await self._ledger.recall(key)
            if known is not None:
                return known
            generation = self.generation(plugin_id, number)
            self._check_startable(generation)
            if canary_percent:
                self._check_canary(generation)
            if validate_only:
                return self._registry.plugin(plugin_id)
            return await self.put_in_place(generation, actor, key, canary_percent=canary_percent)

    async def roll_back(
        self, plugin_id: str, *, actor: str, validate_only: bool = False, key: RequestKey | None = None
    ) -> Plugin:
        """Withdraw the canary; without one, swap to the generation that was active before. Raises FailedPrecondition
        (NO_PREVIOUS_GENERATION) and as `activate`."""
        async with self.locks[plugin_id]:
            known = await self._ledger.recall(key)
            if known is not None:
                return known
            plugin = self._registry.plugin(plugin_id)
            if plugin.canary is not None:
                return plugin if validate_only else await self._withdraw_canary(plugin_id, actor, key)
            previous = plugin.previous
            if previous is None:
                raise FailedPrecondition(
                    f"no generation of {plugin.name} was active before and can be started; activate one by its number",
                    reason="NO_PREVIOUS_GENERATION",
                    metadata={"plugin": plugin.name},
                )
            self._check_startable(previous)
            if validate_only:
                return plugin
            return await self.put_in_place(previous, actor, key, event="plugin.rolled_back")

    async def reload(
        self, plugin_id: str, *, actor: str, validate_only: bool = False, key: RequestKey | None = None
    ) -> Plugin:
        """Read a plugin of the kernel's environment again; changed files are a new generation, which is swapped in.
        Raises FailedPrecondition (PLUGIN_IMMUTABLE; what is wrong with the files) and as `activate`."""
        async with self.locks[plugin_id]:
            known = await self._ledger.recall(key)
            if known is not None:
                return known
            plugin = self._registry.plugin(plugin_id)
            old = plugin.active
            if old is not None and old.origin == "installed":
                raise FailedPrecondition(
                    f"{old.name} is an installed build, which never changes; install another version instead",
                    reason="PLUGIN_IMMUTABLE",
                    metadata={"generation": old.name},
                )
            fresh = await asyncio.to_thread(self._find_again, plugin)
            if validate_only:
                return plugin
            number = await self._ledger.next_number(plugin_id)
            plugin = self._registry.plugin(plugin_id)  # again: a verdict may have fallen, a drain have ended meanwhile
            old = plugin.active
            if old is not None and fresh.digest == old.digest:
                if not old.present:  # after edits that did not serve, the files are put back as they were
                    self._hosts.keep_last(old, False)
                    self._registry.put(plugin.with_generation(replace(old, present=True)))
                return await self._ledger.record(plugin_id, actor, key=key)
            twin = next((g for g in plugin.generations if g.digest == fresh.digest and g.origin != "installed"), None)
            failed = fresh.state is GenerationState.FAILED
            generation = replace(
                fresh, plugin_id=plugin_id, number=twin.number if twin is not None else number, activate_time=None,
                install_time=self._clock.now(), state=fresh.state if failed else GenerationState.INSTALLED,
            )  # fmt: skip
            self._hosts.keep_last(generation, False)  # it may stand by from when its files were the same
            if old is not None:
                self._hosts.keep_last(old)
                plugin = plugin.with_generation(replace(old, present=False))
            self._registry.put(plugin.with_generation(generation))
            if failed:
                error = FailedPrecondition(generation.failure_message, reason=generation.failure_reason)
                raise await self._failed(generation, error, actor)
            return await self.put_in_place(generation, actor, key)

    async def reset(
        self, plugin_id: str, *, actor: str, validate_only: bool = False, key: RequestKey | None = None
    ) -> Plugin:
        """Forget the crashes of a plugin's hosts. Raises NotFound (PLUGIN_NOT_FOUND)."""
        known = await self._ledger.recall(key)
        if known is not None:
            return known
        plugin = self._registry.plugin(plugin_id)
        if validate_only:
            return plugin
        serving = [g for g in (plugin.active, plugin.canary) if g is not None]
        if serving:
            for generation in plugin.generations:
                self._hosts.reset(generation)
        happened: list[tuple[str, Generation, dict[str, Any]]] = [("plugin.reset", g, {}) for g in serving[:1]]
        return await self._ledger.record(plugin_id, actor, *happened, key=key)

    def generation_of(self, plugin_id: str, version: str) -> Generation:
        """The newest generation of a version, one that can be started before others. Raises NotFound
        (PLUGIN_NOT_FOUND, GENERATION_NOT_FOUND)."""
        plugin = self._registry.plugin(plugin_id)
        found = [g for g in plugin.generations if g.version == version]
        if not found:
            there = ", ".join(sorted({g.version for g in plugin.generations}))
            raise NotFound(
                f"{plugin.name} has no version {version[:80]!r}; it has: {there}",
                reason="GENERATION_NOT_FOUND",
                metadata={"plugin": plugin.name},
            )
        return max(found, key=lambda g: (g.runnable, g.number))

    def generation(self, plugin_id: str, number: int) -> Generation:
        """Raises NotFound (PLUGIN_NOT_FOUND, GENERATION_NOT_FOUND)."""
        plugin = self._registry.plugin(plugin_id)
        found = plugin.generation(number)
        if found is None:
            there = ", ".join(str(g.number) for g in plugin.generations)
            raise NotFound(
                f"{plugin.name} has no generation {number}; it has: {there}",
                reason="GENERATION_NOT_FOUND",
                metadata={"plugin": plugin.name},
            )
        return found

    async def close(self) -> None:
        """No swaps any more; what was decided is written."""
        await self.swap.close()
        await self._ledger.close()

    # Steps.

    def _add(self, source: Path | str, signature: bytes, *, keep: bool) -> Build:
        if isinstance(source, Path):
            return self._builds.add_wheel(source, keep=keep, signature=signature)
        try:
            distribution = Requirement(source).name
        except InvalidRequirement as exc:
            rule = f"names no distribution: {exc}"
            raise InvalidArgument(
                f"requirement: {source[:120]!r} {rule}",
                reason="REQUIREMENT_INVALID",
                violations=(FieldViolation("requirement", rule),),
            ) from exc
        return self._builds.add_named(source, distribution, keep=keep)

    def _id_of(self, distribution: str) -> str:
        normalized = normalize(distribution)
        plugins = self._registry.plugins()
        same = next((p.id for p in plugins if normalize(p.distribution) == normalized), None)
        return same or plugin_id_of(normalized, {p.id: None for p in plugins})

    def _twin(self, generation: Generation) -> Generation | None:
        """The same build, if the plugin has it already."""
        plugin = next((p for p in self._registry.plugins() if p.id == generation.plugin_id), None)
        found = plugin.generations if plugin is not None else ()
        return next((g for g in found if g.origin == "installed" and g.digest == generation.digest), None)

    def _plugin_with(self, build: Build, generation: Generation) -> Plugin:
        known = next((p for p in self._registry.plugins() if p.id == generation.plugin_id), None)
        plugin = known or Plugin(generation.plugin_id, generation.distribution, build.summary)
        return plugin.with_generation(generation)

    async def _take_in(self, build: Build, generation: Generation, twin: Generation | None, actor: str) -> Generation:
        plugin_id = generation.plugin_id
        number = twin.number if twin is not None else await self._ledger.next_number(plugin_id)
        new = replace(generation, number=number, install_time=self._clock.now())
        plugin = replace(self._plugin_with(build, new), summary=build.summary)
        self._registry.put(plugin)
        try:
            await self._ledger.record(plugin_id, actor, ("plugin.installed", new, {}))
        except HyperError:
            if twin is None:
                await self._take_out(plugin_id, [new])
            raise
        return new

    async def put_in_place(
        self,
        generation: Generation,
        actor: str,
        key: RequestKey | None,
        *,
        event: str = "plugin.activated",
        canary_percent: int = 0,
    ) -> Plugin:
        """Probe and flip, or begin a canary; whoever calls holds the plugin's lock. Raises as `activate`."""
        plugin_id = generation.plugin_id
        plugin = self._registry.plugin(plugin_id)
        old, canary = plugin.active, plugin.canary
        if old is not None and old.number == generation.number:
            if canary is not None:
                return await self._withdraw_canary(plugin_id, actor, key)
            return await self._ledger.record(plugin_id, actor, key=key)
        await self._probe(generation, actor, serving=generation == canary)
        details: dict[str, object] = {"from": old.name} if old is not None else {}
        if canary_percent:
            fresh = self.swap.start_canary(generation, canary_percent)
            event, details = "plugin.canary_started", {"percent": canary_percent} | details
        else:
            fresh = self.swap.flip(generation, watched=event == "plugin.activated")
        try:
            return await self._ledger.record(plugin_id, actor, (event, fresh, details), key=key)
        except HyperError:  # what a restart would not know must not go on serving
            if canary_percent:
                self.swap.withdraw_canary(plugin_id)
            elif old is not None:
                self.swap.flip(old, watched=False)
            raise

    async def _probe(self, generation: Generation, actor: str, *, serving: bool) -> None:
        """`serving`: it is the canary, which goes on with its share meanwhile."""
        if not serving:
            self._set_state(generation, GenerationState.PROBING)
        try:
            self._registry.check_conflict(generation)
            await self.swap.probe(generation)
            now = self._registry.plugin(generation.plugin_id).generation(generation.number)
            if now is not None and now.state is GenerationState.FAILED:  # the verdict on a canary fell meanwhile
                raise FailedPrecondition(now.failure_message, reason=now.failure_reason)
        except HyperError as exc:
            if serving:
                self.swap.withdraw_canary(generation.plugin_id)
            raise await self._failed(generation, exc, actor) from exc
        except BaseException:
            if not serving:
                self._set_state(generation, generation.state)
            raise

    async def _withdraw_canary(self, plugin_id: str, actor: str, key: RequestKey | None) -> Plugin:
        drained = self.swap.withdraw_canary(plugin_id)
        happened = [] if drained is None else [("plugin.canary_withdrawn", drained, {"reason": "asked for"})]
        return await self._ledger.record(plugin_id, actor, *happened, key=key)

    async def _failed(self, generation: Generation, error: HyperError, actor: str) -> HyperError:
        failed = replace(
            generation, state=GenerationState.FAILED, canary_percent=0, failure_reason=error.reason,
            failure_message=error.message,
        )  # fmt: skip
        self._registry.put(self._registry.plugin(generation.plugin_id).with_generation(failed))
        details = {"reason": error.reason, "message": error.message}
        await self._ledger.record(generation.plugin_id, actor, ("plugin.failed", failed, details))
        return error

    def _set_state(self, generation: Generation, state: GenerationState) -> None:
        plugin = self._registry.plugin(generation.plugin_id)
        self._registry.put(plugin.with_generation(replace(generation, state=state)))

    def _check_startable(self, generation: Generation) -> None:
        if not generation.present or generation.manifest is None:
            raise FailedPrecondition(
                f"the files of {generation.name} are not there as they were; "
                + (generation.failure_message or "install that version again"),
                reason="GENERATION_GONE",
                metadata={"generation": generation.name},
            )
        self._registry.check_conflict(generation)

    def _check_canary(self, generation: Generation) -> None:
        active = self._registry.plugin(generation.plugin_id).active
        if active is not None and active.number != generation.number:
            return
        why = "it is the active one" if active is not None else "no generation is active that it could share with"
        raise FailedPrecondition(
            f"{generation.name} cannot be a canary: {why}; activate it at once, or name another",
            reason="CANARY_REFUSED",
            metadata={"generation": generation.name},
        )

    def _find_again(self, plugin: Plugin) -> Generation:
        importlib.invalidate_caches()
        wanted = normalize(plugin.distribution)
        for found in self._find(self._clock.now()):
            if normalize(found.distribution) == wanted:
                return found.generations[0]
        raise FailedPrecondition(
            f"{plugin.distribution} is not in the daemon's environment any more; restart the daemon to forget it",
            reason="GENERATION_GONE",
            metadata={"plugin": plugin.name},
        )

    async def _take_out(self, plugin_id: str, gone: list[Generation]) -> None:
        """Undo a generation that could not be written down."""
        plugin = self._registry.plugin(plugin_id)
        stays = tuple(g for g in plugin.generations if g not in gone)
        if stays:
            self._registry.put(replace(plugin, generations=stays))
        else:
            self._registry.remove(plugin_id)
        for generation in gone:
            await asyncio.to_thread(self._builds.remove, generation)

"""Swap: one generation takes another's place, and no call notices.

    probe    start the new host beside the old: handshake, self-check, warm-up pings     raises: nothing has happened
    flip     one assignment in the registry: new calls go to the new generation
    watch    probation, with the old host kept warm                                      fails: flips back by itself
    drain    the old host finishes what it has in flight, then is stopped

    canary   instead of the flip: a share of new calls and jobs goes to the new generation, which is on probation until
             it is flipped to or withdrawn; what turns bad is withdrawn by itself

What is written down, and who asked for it, is the lifecycle's part; it hears of what happens here by itself through
`on_event`. Everything lives on the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument

from hypersdk_kernel.hosting.probation import Probation, ProbationPolicy
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.supervisor import HostPool
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, GenerationState, Plugin

log = structlog.get_logger(__name__)

CONNECTED_KINDS = frozenset({"provider", "storage", "notifier", "secrets", "executor"})
"""Kinds whose Health speaks of a connection; without one they can only show that they are there."""


@dataclass(frozen=True, slots=True)
class SwapPolicy:
    """pings         before the flip: they cut p99.9 during swaps from 100 ms to 5 in the prototype
    self_check_s  seconds for one component's Health
    """

    pings: int = 5
    self_check_s: float = 10.0
    probation: ProbationPolicy = field(default_factory=ProbationPolicy)


OnEvent = Callable[[str, Generation, dict[str, Any]], None]
"""(`plugin.rolled_back`, `plugin.canary_withdrawn` or `plugin.retired`, the generation, what else is to be told)."""


class Swap:
    """The swaps of all plugins; at most one probation and one canary a plugin, and not both: a canary ends a probation
    well, and a flip ends a canary."""

    def __init__(
        self, registry: Registry, hosts: HostPool, clock: Clock, policy: SwapPolicy, on_event: OnEvent
    ) -> None:
        self._registry = registry
        self._hosts = hosts
        self._clock = clock
        self._policy = policy
        self._on_event = on_event
        self._probations: dict[str, Probation] = {}
        self._canaries: dict[str, Probation] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._drains: dict[str, asyncio.Task[None]] = {}

    async def probe(self, generation: Generation) -> None:
        """Whether `generation` would serve; its host runs afterwards. Raises FailedPrecondition (HOST_START_FAILED,
        PLUGIN_SELF_CHECK_FAILED); then its host is stopped."""
        draining = generation.name in self._drains
        watched = (*self._probations.values(), *self._canaries.values())
        serving = any(generation.name in {p.previous.name, p.fresh.name} for p in watched)
        self._keep(generation)
        self._hosts.probing(generation)
        try:
            await self._hosts.ping(generation)
            await self._self_check(generation)
            self._hosts.probed(generation)
            for _ in range(self._policy.pings):
                await self._hosts.ping(generation)
        except BaseException as exc:
            if draining:
                self._drain(generation)
            elif not serving:
                await self._hosts.stop(generation)
            self._hosts.probed(generation)
            if not isinstance(exc, HyperError):
                raise
            started = exc.reason != "HOST_START_FAILED"
            raise FailedPrecondition(
                f"{generation.distribution} {generation.version} is not activated: {exc.message}",
                reason="PLUGIN_SELF_CHECK_FAILED" if started else "HOST_START_FAILED",
                metadata={"generation": generation.name, "cause": exc.metadata.get("cause", exc.reason)},
            ) from exc

    def flip(self, generation: Generation, *, watched: bool) -> Generation:
        """`generation` answers from the next line on; what it replaced drains, after its probation if `watched`.
        Returns it as it is now. Raises FailedPrecondition (COMPONENT_CONFLICT); then nothing has changed."""
        plugin = self._registry.plugin(generation.plugin_id)
        old, canary = plugin.active, plugin.canary
        fresh = replace(
            generation, state=GenerationState.ACTIVE, activate_time=self._clock.now(), canary_percent=0,
            failure_reason="", failure_message="",
        )  # fmt: skip
        if old is not None:
            plugin = plugin.with_generation(replace(old, state=GenerationState.DRAINING))
        if canary is not None:
            plugin = plugin.with_generation(_draining(canary))
        self._registry.put(plugin.with_generation(fresh))
        self._end_canary(plugin.id)
        if canary is not None and canary.number != fresh.number:
            self._drain(canary)
        self._keep(fresh)
        self._conclude(plugin.id, fresh)
        if old is not None and watched and self._policy.probation.seconds > 0:
            self._watch(fresh, old)
        elif old is not None:
            self._drain(old)
        return fresh

    def start_canary(self, generation: Generation, percent: int) -> Generation:
        """`generation` gets `percent` of new calls and jobs from the next line on; of the canary that is, another
        share. Returns it as it is now. Raises as `flip`."""
        plugin = self._registry.plugin(generation.plugin_id)
        active, canary = plugin.active, plugin.canary
        assert active is not None, "there is somebody to share with"
        fresh = replace(
            generation, state=GenerationState.CANARY, canary_percent=percent, failure_reason="", failure_message=""
        )
        other = canary if canary is not None and canary.number != fresh.number else None
        if other is not None:
            plugin = plugin.with_generation(_draining(other))
        self._registry.put(plugin.with_generation(fresh))
        if canary is not None and other is None:
            return fresh  # its probation goes on
        self._end_canary(plugin.id)
        if other is not None:
            self._drain(other)
        self._keep(fresh)
        self._conclude(plugin.id, fresh)
        self._watch_canary(fresh, active)
        return fresh

    def resume_canary(self, plugin: Plugin) -> None:
        """After a start of the kernel: watch the canary that `plugin` had."""
        if plugin.canary is not None and plugin.active is not None:
            self._watch_canary(plugin.canary, plugin.active)

    def withdraw_canary(self, plugin_id: str) -> Generation | None:
        """The active generation answers all again; what was the canary drains."""
        plugin = self._registry.plugin(plugin_id)
        self._end_canary(plugin_id)
        if plugin.canary is None:
            return None
        drained = _draining(plugin.canary)
        self._registry.put(plugin.with_generation(drained))
        self._drain(drained)
        return drained

    def withdraw(self, plugin: Plugin) -> None:
        """Nothing answers for `plugin` any more: its active generation and its canary drain."""
        self._conclude(plugin.id, None)
        self.withdraw_canary(plugin.id)
        plugin = self._registry.plugin(plugin.id)
        old = plugin.active
        if old is not None:
            self._registry.put(plugin.with_generation(replace(old, state=GenerationState.DRAINING)))
            self._drain(old)

    async def drained(self, generation: Generation) -> None:
        """Returns when nothing of `generation` runs any more; only of one that is not active."""
        probation = self._probations.get(generation.plugin_id)
        if probation is not None and probation.previous.number == generation.number:
            self._conclude(generation.plugin_id, None)
        task = self._drains.get(generation.name)
        if task is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        """No more verdicts and no more drains; the hosts are the pool's to stop."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._drains.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _self_check(self, generation: Generation) -> None:
        assert generation.manifest is not None, "only generations with a manifest are probed"
        for name, manifest in generation.manifest.components.items():
            component = ActiveComponent(manifest, generation)
            try:
                health = await self._hosts.call(component, "", "Health", {}, None, self._policy.self_check_s)
            except InvalidArgument as exc:
                if manifest.kind in CONNECTED_KINDS and exc.reason == "CONNECTION_REQUIRED":
                    continue
                raise
            if health.get("ok") is not True:
                text = str(health.get("message") or "it says that it is not well")
                raise FailedPrecondition(f"{name}: {text}", reason="PLUGIN_SELF_CHECK_FAILED")

    def _watch(self, fresh: Generation, old: Generation) -> None:
        probation = Probation(fresh, old, self._policy.probation, self._roll_back)
        self._probations[fresh.plugin_id] = probation
        self._hosts.watch(probation)
        self._timers[fresh.plugin_id] = asyncio.get_running_loop().call_later(
            self._policy.probation.seconds, self._conclude, fresh.plugin_id, None
        )

    def _watch_canary(self, fresh: Generation, active: Generation) -> None:
        probation = Probation(fresh, active, self._policy.probation, self._canary_failed)
        self._canaries[fresh.plugin_id] = probation
        self._hosts.watch(probation)

    def _end_canary(self, plugin_id: str) -> None:
        """The canary is watched no longer; what becomes of it is the caller's to say."""
        probation = self._canaries.pop(plugin_id, None)
        if probation is not None:
            probation.passed()
            self._hosts.unwatch(probation)

    def _canary_failed(self, probation: Probation, cause: str) -> None:
        """The verdict: withdrawn, now. The active generation answers all."""
        fresh = probation.fresh
        plugin = self._registry.plugin(fresh.plugin_id)
        failed = replace(
            _draining(plugin.generation(fresh.number) or fresh), state=GenerationState.FAILED,
            failure_reason="PLUGIN_PROBATION_FAILED", failure_message=cause,
        )  # fmt: skip
        self._registry.put(plugin.with_generation(failed))
        del self._canaries[plugin.id]
        self._hosts.unwatch(probation)
        self._hosts.condemn(fresh)
        log.error("plugin_canary_withdrawn", generation=fresh.name, cause=cause)
        self._drain(fresh)
        self._on_event("plugin.canary_withdrawn", failed, {"reason": failed.failure_reason, "message": cause})

    def _conclude(self, plugin_id: str, next_active: Generation | None) -> None:
        """End the plugin's probation, if there is one, well; `next_active` is not to be drained with it."""
        timer = self._timers.pop(plugin_id, None)
        if timer is not None:
            timer.cancel()
        probation = self._probations.pop(plugin_id, None)
        if probation is None:
            return
        probation.passed()
        self._hosts.unwatch(probation)
        if next_active is None or probation.previous.number != next_active.number:
            self._drain(probation.previous)

    def _roll_back(self, probation: Probation, cause: str) -> None:
        """The verdict: flip back, now. The host before it is warm."""
        fresh, previous = probation.fresh, probation.previous
        plugin = self._registry.plugin(fresh.plugin_id)
        failed = replace(
            fresh, state=GenerationState.FAILED, failure_reason="PLUGIN_PROBATION_FAILED", failure_message=cause
        )
        back = replace(previous, state=GenerationState.ACTIVE)
        self._registry.put(plugin.with_generation(failed).with_generation(back))
        self._keep(back)
        self._timers.pop(plugin.id).cancel()
        del self._probations[plugin.id]
        self._hosts.unwatch(probation)
        self._hosts.condemn(fresh)
        log.error("plugin_rolled_back", generation=fresh.name, to=previous.name, cause=cause)
        self._drain(fresh)
        self._on_event("plugin.rolled_back", back, {"from": fresh.name, "reason": failed.failure_reason,
                                                    "message": cause})  # fmt: skip

    def _keep(self, generation: Generation) -> None:
        """It is, or may become, active: whatever was about to end its host is called off."""
        self._hosts.revive(generation)
        task = self._drains.pop(generation.name, None)
        if task is not None:
            task.cancel()

    def _drain(self, generation: Generation) -> None:
        task = asyncio.create_task(self._drain_out(generation))
        self._drains[generation.name] = task
        task.add_done_callback(lambda done: self._drain_done(generation.name, done))

    async def _drain_out(self, generation: Generation) -> None:
        await self._hosts.drain(generation)
        plugin = next((p for p in self._registry.plugins() if p.id == generation.plugin_id), None)
        now = plugin.generation(generation.number) if plugin is not None else None
        if plugin is not None and now is not None and now.state is GenerationState.DRAINING:
            retired = replace(now, state=GenerationState.RETIRED)
            self._registry.put(plugin.with_generation(retired))
            self._on_event("plugin.retired", retired, {})

    def _drain_done(self, name: str, task: asyncio.Task[None]) -> None:
        if self._drains.get(name) is task:
            del self._drains[name]
        if not task.cancelled() and task.exception() is not None:
            log.error("drain_failed", generation=name, exc_info=task.exception())


def _draining(canary: Generation) -> Generation:
    return replace(canary, state=GenerationState.DRAINING, canary_percent=0)

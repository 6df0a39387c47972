"""What is written down of plugins: their generations as they stand, and the events that tell of them.

The registry is the truth in memory. After each change the plugin's generations are written as they stand there at that
moment, together with what happened, in one transaction; the store's single writer keeps the order.

Not here: deciding anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.audit import OK
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import Generation, Plugin
from hypersdk_kernel.store import pins, requests
from hypersdk_kernel.store import plugins as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey

log = structlog.get_logger(__name__)

KERNEL = "kernel"
"""The actor of what happens by itself."""
_CLOSE_S = 5.0


class Ledger:
    """The store, as far as plugins go. Its life: any number of records, then `close`."""

    def __init__(self, store: Store, registry: Registry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: set[str] = set()

    async def record(
        self,
        plugin_id: str,
        actor: str,
        *happened: tuple[str, Generation, dict[str, Any]],
        key: RequestKey | None = None,
    ) -> Plugin:
        """Write the plugin as it stands now, and (event type, generation, details) of what happened."""
        plugin = self._registry.plugin(plugin_id)

        def write(tx: Tx) -> str:
            kept = [generation for generation in plugin.generations if generation.name not in self._gone]
            rows.save(tx.conn, kept, plugin.summary)
            for type_, generation, details in happened:
                tx.emit(type_, generation.name, actor, _told(generation) | details)
                audit(tx, type_, generation, actor, details)
            return plugin_id

        await self._store.write(lambda tx: requests.once(tx, key, str, str, lambda: write(tx)))
        for type_, generation, _ in happened:
            log.info(type_.replace(".", "_"), generation=generation.name, version=generation.version, actor=actor)
        return self._registry.plugin(plugin_id)

    async def forget(self, gone: Sequence[Generation], actor: str, key: RequestKey | None) -> None:
        """Write that generations of one plugin are no more."""

        def write(tx: Tx) -> str:
            for generation in gone:
                rows.remove(tx.conn, generation)
                tx.emit("plugin.uninstalled", generation.name, actor, _told(generation))
                audit(tx, "plugin.uninstalled", generation, actor, {})
            return gone[0].plugin_id

        names = {generation.name for generation in gone}
        self._gone |= names  # a record on its way (its host has just drained) must not bring it back
        try:
            await self._store.write(lambda tx: requests.once(tx, key, str, str, lambda: write(tx)))
        except HyperError:
            self._gone -= names
            raise

    async def recall(self, key: RequestKey | None) -> Plugin | None:
        """The plugin as it is now, when this request was answered before (AIP-155)."""
        known = await self._known(key)
        return None if known is None else self._registry.plugin(str(known))

    async def answered(self, key: RequestKey | None) -> bool:
        """Whether this request was answered before."""
        return await self._known(key) is not None

    async def listed(self, key: RequestKey | None) -> list[str] | None:
        """The names that `remember` was given for this request, when it was answered before."""
        known = await self._known(key)
        return None if known is None else [str(name) for name in known]

    async def remember(self, key: RequestKey | None, names: Sequence[str]) -> None:
        """This request is answered with `names`, from now on."""
        if key is not None:
            await self._store.write(lambda tx: requests.once(tx, key, list, list, lambda: names))

    async def next_number(self, plugin_id: str) -> int:
        """The number of the plugin's next generation; the plugin's lock keeps it from being given twice."""
        return await self._store.read(lambda conn: rows.next_number(conn, plugin_id))

    async def pinned(self) -> dict[str, str]:
        """Digest → the name of a job that has not ended and is pinned to it."""
        holders = await self._store.read(pins.holders)
        return {digest: f"jobs/{job_id}" for digest, job_id in holders.items()}

    async def pin_counts(self) -> dict[str, int]:
        """Digest → how many jobs that have not ended are pinned to it."""
        return await self._store.read(pins.counts)

    def note(self, type_: str, generation: Generation, details: dict[str, Any]) -> None:
        """Record what happened by itself, soon."""
        self.spawn(self._note(type_, generation, details))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` to its end; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSE_S)
        for task in self._tasks:
            task.cancel()

    async def _known(self, key: RequestKey | None) -> Any:
        if key is None:
            return None
        return await self._store.read(lambda conn: requests.recall(conn, key, self._clock.now()))

    async def _note(self, type_: str, generation: Generation, details: dict[str, Any]) -> None:
        if not any(p.id == generation.plugin_id for p in self._registry.plugins()):
            return  # uninstalled meanwhile
        try:
            await self.record(generation.plugin_id, KERNEL, (type_, generation, details))
        except HyperError as exc:
            log.error("plugin_event_lost", type=type_, generation=generation.name, reason=exc.reason)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("plugin_task_failed", exc_info=task.exception())


def audit(tx: Tx, type_: str, generation: Generation, actor: str, details: Mapping[str, Any]) -> None:
    """What happened to a generation, for the audit trail: the reason, but not a plugin's own words."""
    kept = {key: details[key] for key in ("from", "reason", "percent") if key in details}
    outcome = str(details.get("reason", OK)) if type_ == "plugin.failed" else OK
    build = {"version": generation.version, "digest": generation.digest}
    tx.audit(type_, generation.name, actor, outcome, build | kept)


def _told(generation: Generation) -> dict[str, Any]:
    """What an event says of a generation."""
    return {"version": generation.version, "digest": generation.digest, "state": generation.state.value}

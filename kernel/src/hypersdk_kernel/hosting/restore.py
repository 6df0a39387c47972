"""What a starting kernel makes of the plugins it finds and the generations it remembers.

    found in the environment, digest remembered     that generation, as it was
    found in the environment, digest new            a new generation; active if what was active has gone
    remembered, installed, files as sealed          that generation, as it was: a canary keeps its share
    remembered, installed, files touched            FAILED (PLUGIN_TAMPERED); the one before it takes over
    remembered, of the environment, not found now   RETIRED, not present: a name for what old jobs are pinned to

Not here: finding plugins (discovery), reading the store on disk (install), putting one in another's place (swap).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.hosting.discovery import normalize, plugin_id_of
from hypersdk_kernel.hosting.ledger import KERNEL, audit
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.store import plugins as rows
from hypersdk_kernel.store.engine import Tx

log = structlog.get_logger(__name__)

LASTING = frozenset({"HOST_START_FAILED", "PLUGIN_SELF_CHECK_FAILED", "PLUGIN_PROBATION_FAILED"})
"""Failures that a restart does not forgive: the build was tried and found bad. Others are judged anew from files."""


def merge(
    found: Sequence[Plugin],
    remembered: Sequence[Plugin],
    last_numbers: Mapping[str, int],
    load: Callable[[Generation], Generation],
    now: float,
) -> list[Plugin]:
    """All plugins, in order of id. `load`: an installed generation with what its files say; raises when they cannot
    be trusted. `now`: seconds since the epoch. Reads files."""
    known = {normalize(p.distribution): p for p in remembered}
    ids: dict[str, object] = dict.fromkeys(p.id for p in remembered)
    merged: dict[str, Plugin] = {}
    for plugin in found:
        normalized = normalize(plugin.distribution)
        old = known.pop(normalized, None)
        plugin_id = old.id if old is not None else plugin_id_of(normalized, ids)
        ids[plugin_id] = None
        fresh = replace(plugin.generations[0], plugin_id=plugin_id)
        merged[plugin_id] = _one(replace(plugin, id=plugin_id), fresh, old, last_numbers.get(plugin_id, 0), load, now)
    for old in known.values():
        merged[old.id] = _one(old, None, old, last_numbers.get(old.id, 0), load, now)
    return [merged[i] for i in sorted(merged)]


def write_changes(tx: Tx, merged: Sequence[Plugin]) -> None:
    """Make the store remember `merged`; tells of those plugins whose active generation is another than before."""
    before = {p.id: p for p in rows.load(tx.conn)}
    for plugin in merged:
        old = before.get(plugin.id)
        for generation in plugin.generations:
            if old is None or _remembered(old.generation(generation.number)) != _remembered(generation):
                rows.save(tx.conn, [generation], plugin.summary)
        if old is not None:
            _tell(tx, old, plugin)


def _tell(tx: Tx, old: Plugin, plugin: Plugin) -> None:
    for generation in plugin.generations:
        was = old.generation(generation.number)
        if generation.state is GenerationState.FAILED and (was is None or was.state is not GenerationState.FAILED):
            payload = {"version": generation.version, "digest": generation.digest,
                       "reason": generation.failure_reason, "message": generation.failure_message}  # fmt: skip
            tx.emit("plugin.failed", generation.name, KERNEL, payload)
            audit(tx, "plugin.failed", generation, KERNEL, payload)
    if plugin.active is not None and (old.active is None or old.active.number != plugin.active.number):
        payload = {"version": plugin.active.version, "digest": plugin.active.digest, "reason": "kernel start"}
        tx.emit("plugin.activated", plugin.active.name, KERNEL, payload)
        audit(tx, "plugin.activated", plugin.active, KERNEL, payload)


def _remembered(generation: Generation | None) -> object:
    """What of a generation has a place in the store."""
    if generation is None:
        return None
    return replace(generation, entries={}, manifest=None, search_path=(), present=False)


def _one(
    plugin: Plugin,
    fresh: Generation | None,
    old: Plugin | None,
    last_number: int,
    load: Callable[[Generation], Generation],
    now: float,
) -> Plugin:
    kept = [_restored(g, fresh, load) for g in (old.generations if old is not None else ())]
    current = next((g for g in kept if fresh and g.origin != "installed" and g.digest == fresh.digest), None)
    if fresh is not None and current is None:
        state = GenerationState.FAILED if fresh.state is GenerationState.FAILED else GenerationState.INSTALLED
        current = replace(fresh, number=last_number + 1, state=state, activate_time=None, install_time=now)
        kept.append(current)
    active = _choose(old.active if old is not None else None, kept, current)
    before = {g.number: g.state for g in old.generations} if old is not None else {}
    settled = [_settled(g, g is active, active is not None, now) for g in sorted(kept, key=lambda g: g.number)]
    generations = tuple(g if before.get(g.number) is g.state else replace(g, state_time=now) for g in settled)
    return replace(plugin, generations=generations)


def _restored(
    generation: Generation, fresh: Generation | None, load: Callable[[Generation], Generation]
) -> Generation:
    if generation.origin != "installed":
        if fresh is None or fresh.digest != generation.digest:
            state = generation.state if generation.state is GenerationState.FAILED else GenerationState.RETIRED
            return replace(generation, state=state, canary_percent=0)
        files = {"entries": fresh.entries, "manifest": fresh.manifest, "search_path": fresh.search_path}
        back = replace(generation, present=True, origin=fresh.origin, **files)  # type: ignore[arg-type]  # by field
        if fresh.state is GenerationState.FAILED:
            return _failed(back, fresh.failure_reason, fresh.failure_message)
        return _forgiven(back)
    try:
        return _forgiven(load(generation))
    except HyperError as exc:
        log.error("plugin_failed", generation=generation.name, reason=exc.reason, error=exc.message)
        return _failed(generation, exc.reason, exc.message)


def _failed(generation: Generation, reason: str, message: str) -> Generation:
    return replace(
        generation, state=GenerationState.FAILED, canary_percent=0, failure_reason=reason, failure_message=message
    )


def _forgiven(generation: Generation) -> Generation:
    if generation.state is not GenerationState.FAILED or generation.failure_reason in LASTING:
        return generation
    state = GenerationState.INSTALLED if generation.activate_time is None else GenerationState.RETIRED
    return replace(generation, state=state, failure_reason="", failure_message="")


def _choose(was: Generation | None, kept: Sequence[Generation], current: Generation | None) -> Generation | None:
    """Which is active: what was; else, if that was of the environment, what stands there now; else the one before."""
    runnable = [g for g in kept if g.runnable]
    if was is not None:
        same = next((g for g in runnable if g.number == was.number), None)
        if same is not None:
            return same
    if current in runnable and (was is None or was.origin != "installed"):
        return current
    before = [g for g in runnable if g.activate_time is not None]
    if before:
        return max(before, key=lambda g: (g.activate_time or 0.0, g.number))
    return current if current in runnable else None


def _settled(generation: Generation, active: bool, shared: bool, now: float) -> Generation:
    """`shared`: there is an active generation, beside which this one may go on as the canary that it was."""
    if active and generation.state is not GenerationState.ACTIVE:
        return replace(generation, state=GenerationState.ACTIVE, activate_time=now, canary_percent=0)
    ended = generation.state is GenerationState.CANARY and not (shared and generation.runnable)
    if ended or (not active and generation.state is GenerationState.ACTIVE):
        return replace(generation, state=GenerationState.RETIRED, canary_percent=0)
    return generation

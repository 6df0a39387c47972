"""Plugins and generations as rows: what a restarted kernel cannot read from the plugins' files.

A row holds no manifest and no entry points; those are read from the files, whose digest it has. States on the way are
kept as what a restart makes of them: PROBING is INSTALLED, DRAINING is RETIRED. A plugin's row outlives its
generations, so that a number is never given twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin, Provenance
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import generations, plugins

_KEPT_AS = {
    GenerationState.PROBING: GenerationState.INSTALLED,
    GenerationState.DRAINING: GenerationState.RETIRED,
}
_BODY = ("install_time", "state_time", "canary_percent", "seal", "failure_reason", "failure_message")


def load(conn: Connection) -> list[Plugin]:
    """Every plugin that has generations, in order of id."""
    found: dict[str, Plugin] = {
        row.id: Plugin(row.id, row.distribution, row.summary) for row in conn.execute(select(plugins))
    }
    query = select(generations).order_by(generations.c.plugin_id, generations.c.number)
    for row in conn.execute(query):
        plugin = found[row.plugin_id]
        generation = Generation(
            plugin_id=row.plugin_id,
            number=row.number,
            distribution=plugin.distribution,
            version=row.version,
            digest=row.digest,
            origin=row.origin,
            state=GenerationState(row.state),
            entries={},
            manifest=None,
            activate_time=row.activate_time,
            present=False,
            **_body(json.loads(row.body)),
        )
        found[row.plugin_id] = plugin.with_generation(generation)
    return [found[i] for i in sorted(found) if found[i].generations]


def last_numbers(conn: Connection) -> dict[str, int]:
    """The last number that each plugin ever gave to a generation."""
    return {row.id: row.last_number for row in conn.execute(select(plugins.c.id, plugins.c.last_number))}


def next_number(conn: Connection, plugin_id: str) -> int:
    """Counts from 1. Taken by the `save` of the generation that gets it."""
    last = conn.execute(select(plugins.c.last_number).where(plugins.c.id == plugin_id)).scalar_one_or_none()
    return (last or 0) + 1


def save(conn: Connection, changed: Sequence[Generation], summary: str) -> None:
    """Insert or replace generations of one plugin, and the plugin's row: four statements, however many they are."""
    if not changed:
        return
    plugin_id = changed[0].plugin_id
    known = conn.execute(select(plugins.c.last_number).where(plugins.c.id == plugin_id)).scalar_one_or_none()
    numbers = [generation.number for generation in changed]
    values = {
        "distribution": changed[-1].distribution, "summary": summary, "last_number": max(known or 0, *numbers)
    }  # fmt: skip
    if known is None:
        conn.execute(insert(plugins).values(id=plugin_id, **values))
    else:
        conn.execute(update(plugins).where(plugins.c.id == plugin_id).values(**values))
    conn.execute(
        delete(generations).where(generations.c.plugin_id == plugin_id, generations.c.number.in_(numbers))
    )
    conn.execute(insert(generations), [_row(generation) for generation in changed])


def _row(generation: Generation) -> dict[str, Any]:
    body = {key: getattr(generation, key) for key in _BODY} | {"provenance": asdict(generation.provenance)}
    return {
        "plugin_id": generation.plugin_id, "number": generation.number, "version": generation.version,
        "digest": generation.digest, "origin": generation.origin, "activate_time": generation.activate_time,
        "state": _KEPT_AS.get(generation.state, generation.state).value, "body": codec.dumps(body),
    }  # fmt: skip


def _body(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's JSON says; of one written before a field was there, the field's default."""
    origin = data.get("provenance") or {}
    known = {f.name: str(origin[f.name]) for f in fields(Provenance) if f.name in origin}
    return {**{key: data[key] for key in _BODY if key in data}, "provenance": Provenance(**known)}


def remove(conn: Connection, generation: Generation) -> None:
    """Forget a generation. No-op when it is not there."""
    conn.execute(
        delete(generations).where(
            generations.c.plugin_id == generation.plugin_id, generations.c.number == generation.number
        )
    )

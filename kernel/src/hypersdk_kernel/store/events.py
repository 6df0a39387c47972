"""The event log. Appended through `Tx.emit` only, in the transaction of the change it tells of."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store.tables import events


def page(
    conn: Connection,
    after_revision: int,
    limit: int,
    where: ColumnElement[bool] | None = None,
    *,
    newest_first: bool = False,
) -> list[Event]:
    """Up to `limit` events with a greater revision (with `newest_first`: a smaller one, 0 meaning from the end)."""
    query = select(events).limit(limit)
    if newest_first:
        query = query.order_by(events.c.revision.desc())
        if after_revision:
            query = query.where(events.c.revision < after_revision)
    else:
        query = query.where(events.c.revision > after_revision).order_by(events.c.revision)
    if where is not None:
        query = query.where(where)
    return [_event(row) for row in conn.execute(query)]


def bounds(conn: Connection) -> tuple[int, int]:
    """Oldest and newest revision kept; (0, 0) when there is none."""
    low, high = conn.execute(select(func.min(events.c.revision), func.max(events.c.revision))).one()
    return low or 0, high or 0


def _event(row: Any) -> Event:
    return Event(row.revision, row.time, row.type, row.subject, row.actor, json.loads(row.payload))

"""Connections as rows."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from hypersdk_kernel.model import connection as model
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import connections


def add(conn: Connection, connection: model.Connection) -> None:
    """Raises sqlalchemy IntegrityError when the id is taken."""
    conn.execute(insert(connections).values(**_row(connection)))


def save(conn: Connection, connection: model.Connection) -> None:
    conn.execute(update(connections).where(connections.c.id == connection.id).values(**_row(connection)))


def remove(conn: Connection, connection_id: str) -> None:
    conn.execute(delete(connections).where(connections.c.id == connection_id))


def get(conn: Connection, connection_id: str) -> model.Connection | None:
    body = conn.execute(select(connections.c.body).where(connections.c.id == connection_id)).scalar_one_or_none()
    return None if body is None else codec.connection_from_json(json.loads(body))


def page(conn: Connection, limit: int, after: str, where: ColumnElement[bool] | None = None) -> list[model.Connection]:
    """Connections with an id above `after`, in order of id."""
    query = select(connections.c.body).where(connections.c.id > after).order_by(connections.c.id).limit(limit)
    if where is not None:
        query = query.where(where)
    return [codec.connection_from_json(json.loads(body)) for body in conn.execute(query).scalars()]


def names(conn: Connection, kind: str) -> list[str]:
    """`connections/{id}` of every connection whose component is of `kind`."""
    query = (
        select(connections.c.id)
        .where(connections.c.component.startswith(f"{kind}/", autoescape=True))
        .order_by(connections.c.id)
    )
    return [f"connections/{i}" for i in conn.execute(query).scalars()]


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(connections)).scalar_one()


def _row(connection: model.Connection) -> dict[str, object]:
    return {
        "id": connection.id, "uid": connection.uid, "component": connection.component,
        "create_time": connection.create_time,
        "revision": connection.revision, "labels": dict(connection.labels),
        "body": codec.dumps(codec.connection_to_json(connection)),
    }  # fmt: skip

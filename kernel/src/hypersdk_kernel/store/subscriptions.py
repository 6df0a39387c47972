"""Subscriptions, their positions and their dead letters as rows. A position is a row of its own: it changes with
every delivery, and the subscription's etag does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.subscription import DeadLetter, Notice, Position, Subscription
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.tables import dead_letters, subscription_positions, subscriptions

DEAD_LETTERS_KEPT = 10_000
"""Of one subscription; the oldest make room."""


def add(conn: Connection, subscription: Subscription, position: Position) -> None:
    """Raises sqlalchemy IntegrityError when the id is taken."""
    conn.execute(insert(subscriptions).values(**_row(subscription)))
    conn.execute(insert(subscription_positions).values(subscription_id=subscription.id, **_position_row(position)))


def save(conn: Connection, subscription: Subscription) -> None:
    conn.execute(update(subscriptions).where(subscriptions.c.id == subscription.id).values(**_row(subscription)))


def remove(conn: Connection, subscription_id: str) -> None:
    """With its position and its dead letters."""
    conn.execute(delete(dead_letters).where(dead_letters.c.subscription_id == subscription_id))
    conn.execute(delete(subscription_positions).where(subscription_positions.c.subscription_id == subscription_id))
    conn.execute(delete(subscriptions).where(subscriptions.c.id == subscription_id))


def get(conn: Connection, subscription_id: str) -> Subscription | None:
    query = select(subscriptions.c.body).where(subscriptions.c.id == subscription_id)
    body = conn.execute(query).scalar_one_or_none()
    return None if body is None else subscription_from_json(json.loads(body))


def page(
    conn: Connection, limit: int, after: str, where: ColumnElement[bool] | None = None
) -> list[tuple[Subscription, Position]]:
    """Those with an id above `after`, in order of id."""
    query = (
        select(subscriptions.c.body, subscription_positions.c.body)
        .join(subscription_positions, subscription_positions.c.subscription_id == subscriptions.c.id)
        .where(subscriptions.c.id > after)
        .order_by(subscriptions.c.id)
        .limit(limit)
    )
    if where is not None:
        query = query.where(where)
    rows = conn.execute(query)
    return [(subscription_from_json(json.loads(own)), _position(json.loads(at))) for own, at in rows]


def ids(conn: Connection) -> list[str]:
    return list(conn.execute(select(subscriptions.c.id).order_by(subscriptions.c.id)).scalars())


def count(conn: Connection) -> int:
    return conn.execute(select(func.count()).select_from(subscriptions)).scalar_one()


def using(conn: Connection, connection_id: str, limit: int) -> list[str]:
    """Names of the subscriptions that tell through a connection."""
    query = select(subscriptions.c.id).where(subscriptions.c.connection_id == connection_id).limit(limit)
    return [f"subscriptions/{found}" for found in conn.execute(query).scalars()]


def position(conn: Connection, subscription_id: str) -> Position | None:
    query = select(subscription_positions.c.body).where(subscription_positions.c.subscription_id == subscription_id)
    body = conn.execute(query).scalar_one_or_none()
    return None if body is None else _position(json.loads(body))


def save_position(conn: Connection, subscription_id: str, at: Position) -> None:
    where = subscription_positions.c.subscription_id == subscription_id
    conn.execute(update(subscription_positions).where(where).values(**_position_row(at)))


def bury(conn: Connection, letter: DeadLetter) -> int:
    """Keep a dead letter, in the place of one with the same key; how many old ones had to make room."""
    exhume(conn, letter.subscription_id, letter.notice.key)
    conn.execute(insert(dead_letters).values(
        subscription_id=letter.subscription_id, key=letter.notice.key, revision=letter.notice.event.revision,
        queued=int(letter.queued), create_time=letter.create_time, body=codec.dumps(_letter_to_json(letter)),
    ))  # fmt: skip
    own = dead_letters.c.subscription_id == letter.subscription_id
    surplus = conn.execute(select(func.count()).select_from(dead_letters).where(own)).scalar_one() - DEAD_LETTERS_KEPT
    if surplus <= 0:
        return 0
    order = (dead_letters.c.create_time, dead_letters.c.revision, dead_letters.c.key)
    oldest = conn.execute(select(dead_letters.c.key).where(own).order_by(*order).limit(surplus)).scalars().all()
    conn.execute(delete(dead_letters).where(own, dead_letters.c.key.in_(oldest)))
    return surplus


def exhume(conn: Connection, subscription_id: str, key: str) -> None:
    """It is no dead letter any more."""
    conn.execute(
        delete(dead_letters).where(dead_letters.c.subscription_id == subscription_id, dead_letters.c.key == key)
    )


def queue_letters(conn: Connection, subscription_id: str, keys: Iterable[str] | None) -> int:
    """Have those (None: all) told once more; how many there are of them."""
    query = update(dead_letters).where(dead_letters.c.subscription_id == subscription_id).values(queued=1)
    if keys is not None:
        query = query.where(dead_letters.c.key.in_(list(keys)))
    return int(conn.execute(query).rowcount)


def next_queued(conn: Connection, subscription_id: str) -> DeadLetter | None:
    """The queued dead letter of the smallest revision."""
    own = dead_letters.c.subscription_id == subscription_id
    query = (
        select(dead_letters).where(own, dead_letters.c.queued == 1)
        .order_by(dead_letters.c.revision, dead_letters.c.key).limit(1)
    )  # fmt: skip
    row = conn.execute(query).one_or_none()
    return None if row is None else _letter(row)


def letters(conn: Connection, subscription_id: str, limit: int, after: tuple[int, str]) -> list[DeadLetter]:
    """Those after the key (revision, key), in that order."""
    revision, key = after
    table = dead_letters.c
    query = (
        select(dead_letters)
        .where(table.subscription_id == subscription_id)
        .where((table.revision > revision) | ((table.revision == revision) & (table.key > key)))
        .order_by(table.revision, table.key)
        .limit(limit)
    )
    return [_letter(row) for row in conn.execute(query)]


def letter_count(conn: Connection, subscription_id: str) -> int:
    own = dead_letters.c.subscription_id == subscription_id
    return conn.execute(select(func.count()).select_from(dead_letters).where(own)).scalar_one()


def subscription_to_json(subscription: Subscription) -> dict[str, Any]:
    out = {f.name: getattr(subscription, f.name) for f in dataclasses.fields(Subscription)}
    return {**out, "labels": dict(subscription.labels), "retry": dataclasses.asdict(subscription.retry)}


def subscription_from_json(data: dict[str, Any]) -> Subscription:
    values = codec.known(Subscription, data)
    values["retry"] = codec.retry_from_json(data.get("retry") or {})
    return Subscription(**values)


def _row(subscription: Subscription) -> dict[str, Any]:
    return {
        "id": subscription.id, "uid": subscription.uid,
        "connection_id": subscription.connection.partition("/")[2],
        "create_time": subscription.create_time, "revision": subscription.revision,
        "labels": dict(subscription.labels), "body": codec.dumps(subscription_to_json(subscription)),
    }  # fmt: skip


def _position(data: dict[str, Any]) -> Position:
    return Position(**codec.known(Position, data))


def _position_row(at: Position) -> dict[str, Any]:
    return {"cursor": at.cursor, "body": codec.dumps(dataclasses.asdict(at))}


def _letter_to_json(letter: DeadLetter) -> dict[str, Any]:
    event = letter.notice.event
    return {
        "delivery_id": letter.notice.delivery_id, "attempt_count": letter.attempt_count, "error": dict(letter.error),
        "event": {f.name: getattr(event, f.name) for f in dataclasses.fields(Event)},
    }  # fmt: skip


def _letter(row: Any) -> DeadLetter:
    data = json.loads(row.body)
    notice = Notice(data["delivery_id"], row.key, Event(**codec.known(Event, data["event"])), 0)
    return DeadLetter(
        row.subscription_id, notice, data["attempt_count"], data["error"], row.create_time, queued=bool(row.queued)
    )

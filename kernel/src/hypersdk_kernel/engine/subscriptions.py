"""Subscriptions as clients handle them: made, changed, paused, told once more, forgotten.

Whatever changes a position bumps its epoch, so that a delivery under way cannot undo it. Couriers hear of every
change by its event.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypersdk.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)
from sqlalchemy import ColumnElement

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.names import check_id, id_of
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.model.subscription import DEFAULT_RETRY, DeadLetter, Position, Subscription, accepts
from hypersdk_kernel.store import connections as connection_rows
from hypersdk_kernel.store import events as event_rows
from hypersdk_kernel.store import subscriptions as rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once

MAX_SUBSCRIPTIONS = 256
"""Each costs a look at every event."""
UPDATABLE = frozenset({"display_name", "labels", "connection", "filter", "retry"})


class Subscriptions:
    """What SubscriptionService needs."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(
        self,
        subscription_id: str,
        connection: str,
        *,
        filter_text: str = "",
        retry: RetryPolicy = DEFAULT_RETRY,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        paused: bool = False,
        after_revision: int | None = None,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Subscription:
        """Tell through `connection` of events after `after_revision`; None: of those to come. Raises AlreadyExists
        (SUBSCRIPTION_EXISTS), InvalidArgument (FILTER_INVALID, NOTIFIER_REQUIRED), NotFound, OutOfRange
        (REVISION_GONE), ResourceExhausted (SUBSCRIPTION_LIMIT)."""
        check_id(subscription_id, "subscription_id")
        now = self._clock.now()
        new = Subscription(
            subscription_id, str(uuid.uuid4()), connection, now, now, display_name, dict(labels or {}), filter_text,
            retry, paused,
        )  # fmt: skip
        accepts(new)

        def change(tx: Tx) -> Subscription:
            if rows.get(tx.conn, subscription_id) is not None:
                raise AlreadyExists(
                    f"{new.name} exists already; choose another id, or update it",
                    reason="SUBSCRIPTION_EXISTS",
                    metadata={"name": new.name},
                )
            if rows.count(tx.conn) >= MAX_SUBSCRIPTIONS:
                raise ResourceExhausted(
                    f"there are {MAX_SUBSCRIPTIONS} subscriptions already, which is all a kernel serves; delete one",
                    reason="SUBSCRIPTION_LIMIT",
                    retryable=False,
                )
            _check_connection(tx, connection)
            cursor = self._cursor(tx, after_revision)
            if validate_only:
                return new
            made = replace(new, revision=tx.new_revision())
            rows.add(tx.conn, made, Position(made.revision if cursor is None else cursor))
            tx.emit("subscription.created", made.name, actor, _payload(made), revision=made.revision)
            return made

        return await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def get(self, subscription_id: str) -> tuple[Subscription, Position, int]:
        """With where it is and the number of its dead letters. Raises NotFound (SUBSCRIPTION_NOT_FOUND)."""
        found = await self._store.near(
            lambda conn: (
                rows.get(conn, subscription_id),
                rows.position(conn, subscription_id),
                rows.letter_count(conn, subscription_id),
            )
        )
        if found[0] is None or found[1] is None:
            raise _not_found(subscription_id)
        return found[0], found[1], found[2]

    async def page(
        self, limit: int, after: str, where: ColumnElement[bool] | None = None
    ) -> list[tuple[Subscription, Position, int]]:
        """Up to `limit` with an id above `after`, in order of id."""
        return await self._store.read(
            lambda conn: [
                (own, at, rows.letter_count(conn, own.id)) for own, at in rows.page(conn, limit, after, where)
            ]
        )

    async def update(
        self,
        subscription_id: str,
        changes: Mapping[str, Any],
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Subscription:
        """`changes`: new values of display_name, labels, connection, filter, retry. What was to be tried later is
        tried at once."""
        unknown = changes.keys() - UPDATABLE
        if unknown:
            raise InvalidArgument(
                f"cannot update {', '.join(sorted(unknown))}",
                reason="FIELD_IMMUTABLE",
                violations=tuple(FieldViolation(f"subscription.{f}", "cannot change") for f in sorted(unknown)),
            )

        def change(tx: Tx) -> Subscription:
            new = replace(_load(tx, subscription_id, etag), **changes, update_time=tx.now)
            accepts(new)
            _check_connection(tx, new.connection)
            return new if validate_only else _save(tx, new, "subscription.updated", actor)

        return await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def set_paused(
        self,
        subscription_id: str,
        paused: bool,
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Subscription:
        """Pausing what is paused changes nothing. Events go on being kept for it, as long as the log keeps them."""

        def change(tx: Tx) -> Subscription:
            old = _load(tx, subscription_id, etag)
            if validate_only or old.paused == paused:
                return replace(old, paused=paused)
            event_type = "subscription.paused" if paused else "subscription.resumed"
            return _save(tx, replace(old, paused=paused, update_time=tx.now), event_type, actor)

        return await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def delete(
        self,
        subscription_id: str,
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> None:
        """With its dead letters."""

        def change(tx: Tx) -> Subscription:
            old = _load(tx, subscription_id, etag)
            if not validate_only:
                rows.remove(tx.conn, subscription_id)
                tx.emit("subscription.deleted", old.name, actor, {})
            return old

        await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: change(tx)))

    async def redeliver(
        self,
        subscription_id: str,
        *,
        after_revision: int | None = None,
        letters: Sequence[str] | None = (),
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> int:
        """Tell once more: everything after a revision, or those dead letters (None: all). How many dead letters. Raises
        OutOfRange (REVISION_GONE) for events that are no longer kept, NotFound (DEAD_LETTER_NOT_FOUND)."""

        def change(tx: Tx) -> int:
            own = _load(tx, subscription_id)
            position = rows.position(tx.conn, subscription_id)
            assert position is not None
            if after_revision is not None:
                self._cursor(tx, after_revision)
                if after_revision > position.cursor:
                    raise OutOfRange(
                        f"{own.name} has been told up to revision {position.cursor}; redelivery starts before that",
                        reason="REVISION_GONE",
                    )
                position = replace(position.at_once(), cursor=after_revision, redelivering=False, gap_cursor=-1)
            keys = None if letters is None else [_letter_key(own, name) for name in letters]
            count = rows.letter_count(tx.conn, subscription_id) if keys is None else len(keys)
            if keys and rows.queue_letters(tx.conn, subscription_id, keys) != len(set(keys)):
                raise NotFound(
                    f"{own.name} has no such dead letter (any more); `hyperctl subscription dead-letters` lists them",
                    reason="DEAD_LETTER_NOT_FOUND",
                )
            if validate_only:
                raise _Undo(count)
            if keys is None:
                rows.queue_letters(tx.conn, subscription_id, None)
            rows.save_position(tx.conn, subscription_id, replace(position, epoch=position.epoch + 1))
            asked = {"after_revision": after_revision, "dead_letter_count": count}
            tx.emit("subscription.redelivery_requested", own.name, actor, asked)
            return count

        try:
            return await self._store.write(
                lambda tx: once(tx, None if validate_only else key, int, int, lambda: change(tx))
            )
        except _Undo as done:
            return done.count

    async def letters(self, subscription_id: str, limit: int, after: tuple[int, str]) -> list[DeadLetter]:
        """Raises NotFound (SUBSCRIPTION_NOT_FOUND)."""
        found = await self._store.read(
            lambda conn: (rows.get(conn, subscription_id), rows.letters(conn, subscription_id, limit, after))
        )
        if found[0] is None:
            raise _not_found(subscription_id)
        return found[1]

    @property
    def last_revision(self) -> int:
        return self._store.last_revision

    def _cursor(self, tx: Tx, after_revision: int | None) -> int | None:
        """The cursor after which the log still has everything."""
        if after_revision is None:
            return None
        oldest, newest = event_rows.bounds(tx.conn)
        if after_revision > newest or after_revision < oldest - 1:
            raise OutOfRange(
                f"the log has events {oldest} to {newest}; events after {after_revision} cannot be told",
                reason="REVISION_GONE",
                metadata={"oldest": str(oldest), "newest": str(newest)},
            )
        return after_revision


class _Undo(Exception):
    """Takes a function's savepoint back, and brings its answer out."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


_CODEC = (rows.subscription_to_json, rows.subscription_from_json)


def _payload(subscription: Subscription) -> dict[str, Any]:
    return {"subscription": rows.subscription_to_json(subscription)}


def _save(tx: Tx, changed: Subscription, event_type: str, actor: str) -> Subscription:
    new = replace(changed, revision=tx.new_revision())
    rows.save(tx.conn, new)
    position = rows.position(tx.conn, new.id)
    assert position is not None
    rows.save_position(tx.conn, new.id, replace(position.at_once(), epoch=position.epoch + 1))
    tx.emit(event_type, new.name, actor, _payload(new), revision=new.revision)
    return new


def _load(tx: Tx, subscription_id: str, etag: str = "") -> Subscription:
    found = rows.get(tx.conn, subscription_id)
    if found is None:
        raise _not_found(subscription_id)
    if etag and etag != found.etag:
        raise Aborted(
            f"{found.name} has changed since it was read; read it again and decide anew",
            reason="ETAG_MISMATCH",
            metadata={"etag": found.etag},
        )
    return found


def _check_connection(tx: Tx, name: str) -> None:
    found = connection_rows.get(tx.conn, id_of(name, "connections", "subscription.connection"))
    if found is None:
        raise FailedPrecondition(
            f"there is no {name}; make a connection of a notifier first", reason="CONNECTION_NOT_FOUND"
        )
    if not found.component.startswith("notifier/"):
        text = f"{name} is of {found.component}; a subscription needs a connection of a notifier"
        raise InvalidArgument(
            text, reason="NOTIFIER_REQUIRED", violations=(FieldViolation("subscription.connection", text),)
        )


def _letter_key(own: Subscription, name: str) -> str:
    prefix = f"{own.name}/deadLetters/"
    if not name.startswith(prefix):
        raise InvalidArgument(
            f"{name[:160]!r} is no dead letter of {own.name}",
            reason="NAME_INVALID",
            violations=(FieldViolation("dead_letters", f"must begin with {prefix}"),),
        )
    return name.removeprefix(prefix)


def _not_found(subscription_id: str) -> NotFound:
    return NotFound(
        f"there is no subscription subscriptions/{subscription_id}; `hyperctl subscription list` shows those there are",
        reason="SUBSCRIPTION_NOT_FOUND",
        metadata={"name": f"subscriptions/{subscription_id}"},
    )

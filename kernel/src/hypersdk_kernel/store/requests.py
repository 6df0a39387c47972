"""Request ids (AIP-155): the same id with the same request returns the first answer for 24 h."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypersdk.errors import AlreadyExists
from sqlalchemy import Connection, delete, select

from hypersdk_kernel.store import codec
from hypersdk_kernel.store.statements import Row
from hypersdk_kernel.store.tables import REQUESTS_KEPT_S, requests
from hypersdk_kernel.store.transaction import Key, Tx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Which request this is. `digest`: SHA-256 of the serialized request, 32 bytes."""

    request_id: str
    method: str
    digest: bytes


def once(
    tx: Tx,
    key: RequestKey | None,
    encode: Callable[[T], Any],
    decode: Callable[[Any], T],
    change: Callable[[], T],
) -> T:
    """`change()` and remember its answer under `key`; or the remembered answer, with nothing changed. Without a key
    just
    `change()`. Raises AlreadyExists (REQUEST_ID_REUSED) when the id came with another request."""
    if key is None:
        return change()
    found = tx.find(requests, key.request_id)
    known = _answer(found, key, tx.now)
    if known is not None:
        return decode(known)
    answer = change()
    if found is not None:  # of another day
        tx.conn.execute(delete(requests).where(requests.c.request_id == key.request_id))
    row = {"request_id": key.request_id, "method": key.method, "digest": key.digest, "create_time": tx.now}
    tx.insert(requests, {**row, "answer": codec.dumps(encode(answer))})
    return answer


def keys(key: RequestKey | None) -> tuple[Key, ...]:
    """What `once` is going to look up, for Store.write."""
    return () if key is None else ((requests, key.request_id),)


def recall(conn: Connection, key: RequestKey | None, now: float) -> Any | None:
    """The encoded answer that is remembered under `key`; None when there is none. `now`: seconds since the epoch.
    Raises AlreadyExists (REQUEST_ID_REUSED) when the id came with another request."""
    if key is None:
        return None
    found = conn.execute(select(requests).where(requests.c.request_id == key.request_id)).mappings().one_or_none()
    return _answer(None if found is None else dict(found), key, now)


def _answer(row: Row | None, key: RequestKey, now: float) -> Any | None:
    if row is None or row["create_time"] <= now - REQUESTS_KEPT_S:
        return None
    if row["method"] != key.method or bytes(row["digest"]) != key.digest:
        raise AlreadyExists(
            f"request_id {key.request_id} was used for another request; choose a new UUID for every new request",
            reason="REQUEST_ID_REUSED",
            metadata={"request_id": key.request_id},
        )
    return json.loads(row["answer"])

"""Resources that are replaced whole: created, read, listed, updated, deleted, with etags, request ids and events.

Not here: what they mean (windows, limits, groups).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hypersdk.errors import Aborted, AlreadyExists, NotFound

from hypersdk_kernel.store import documents as rows
from hypersdk_kernel.store.documents import Document
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once


class Resource(Protocol):
    """What every value has."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def etag(self) -> str: ...
    @property
    def create_time(self) -> float: ...
    @property
    def revision(self) -> int: ...


R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """`noun` as in event types, `plural` as in names; `stamp(value, create_time, update_time, revision)` is the value
    with those fields."""

    noun: str
    plural: str
    missing_reason: str
    twin_reason: str
    encode: Callable[[R], dict[str, Any]]
    decode: Callable[[Mapping[str, Any]], R]
    stamp: Callable[[R, float, float, int], R]


class Documents(Generic[R]):
    """The resources of one kind."""

    def __init__(self, store: Store, kind: Kind[R]) -> None:
        self.kind = kind
        self._store = store

    async def create(self, value: R, *, actor: str, key: RequestKey | None = None, validate_only: bool = False) -> R:
        """Raises AlreadyExists (twin_reason)."""

        def change(tx: Tx) -> R:
            self.refuse_twin(rows.get(tx.conn, self.kind.noun, value.id), value)
            made = self.kind.stamp(value, tx.now, tx.now, tx.new_revision())
            rows.add(tx.conn, self._document(made))
            self._tell(tx, made, "created", actor)
            return made

        if validate_only:
            twin = await self._store.read(lambda conn: rows.get(conn, self.kind.noun, value.id))
            self.refuse_twin(twin, value)
            return value
        return await self._once(key, change)

    async def get(self, resource_id: str) -> R:
        """Raises NotFound (missing_reason)."""
        found = await self._store.read(lambda conn: rows.get(conn, self.kind.noun, resource_id))
        if found is None:
            raise self.missing(resource_id)
        return self.kind.decode(found.body)

    async def every(self) -> list[R]:
        """All, in order of id."""
        found = await self._store.read(lambda conn: rows.every(conn, self.kind.noun))
        return [self.kind.decode(document.body) for document in found]

    async def page(self, limit: int, after: tuple[float, str] | None) -> list[R]:
        """Newest first."""
        found = await self._store.read(lambda conn: rows.page(conn, self.kind.noun, limit, after))
        return [self.kind.decode(document.body) for document in found]

    async def update(
        self,
        resource_id: str,
        change: Callable[[R], R],
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> R:
        """What `change` makes of it. Raises NotFound, Aborted (ETAG_MISMATCH), and what `change` raises."""
        if validate_only:
            return change(await self.get(resource_id))

        def write(tx: Tx) -> R:
            old = self._load(tx, resource_id, etag)
            new = self.kind.stamp(change(old), old.create_time, tx.now, tx.new_revision())
            rows.save(tx.conn, self._document(new))
            self._tell(tx, new, "updated", actor)
            return new

        return await self._once(key, write)

    async def delete(
        self,
        resource_id: str,
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
        refuse: Callable[[Tx], None] | None = None,
    ) -> None:
        """`refuse` may raise when something still needs it. Raises as `update`."""

        def write(tx: Tx) -> R:
            old = self._load(tx, resource_id, etag)
            if refuse is not None:
                refuse(tx)
            if not validate_only:
                rows.remove(tx.conn, self.kind.noun, resource_id)
                tx.emit(f"{self.kind.noun}.deleted", old.name, actor, {})
            return old

        await self._once(None if validate_only else key, write)

    def missing(self, resource_id: str) -> NotFound:
        name = f"{self.kind.plural}/{resource_id}"
        return NotFound(
            f"there is no {name}; list what there is",
            reason=self.kind.missing_reason,
            metadata={"name": name},
        )

    def refuse_twin(self, twin: Document | None, value: R) -> None:
        """Raises AlreadyExists (twin_reason) when there is a `twin`."""
        if twin is not None:
            raise AlreadyExists(
                f"{value.name} exists already; choose another id, or update it",
                reason=self.kind.twin_reason,
                metadata={"name": value.name},
            )

    async def _once(self, key: RequestKey | None, change: Callable[[Tx], R]) -> R:
        kind = self.kind
        return await self._store.write(lambda tx: once(tx, key, kind.encode, kind.decode, lambda: change(tx)))

    def _load(self, tx: Tx, resource_id: str, etag: str) -> R:
        found = rows.get(tx.conn, self.kind.noun, resource_id)
        if found is None:
            raise self.missing(resource_id)
        value = self.kind.decode(found.body)
        if etag and etag != value.etag:
            raise Aborted(
                f"{value.name} has changed since it was read; read it again and decide anew",
                reason="ETAG_MISMATCH",
                metadata={"etag": value.etag},
            )
        return value

    def _document(self, value: R) -> Document:
        return Document(self.kind.noun, value.id, value.create_time, value.revision, self.kind.encode(value))

    def _tell(self, tx: Tx, value: R, verb: str, actor: str) -> None:
        payload = {self.kind.noun: self.kind.encode(value)}
        tx.emit(f"{self.kind.noun}.{verb}", value.name, actor, payload, revision=value.revision)

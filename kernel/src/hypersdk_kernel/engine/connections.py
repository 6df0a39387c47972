"""Connections: components with their configuration, checked against the component's schema."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hypersdk.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
)
from sqlalchemy import ColumnElement

from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.engine.vaults import Vaults
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import Connection, ResolvedConnection
from hypersdk_kernel.model.job import TERMINAL, JobState
from hypersdk_kernel.model.names import check_id, id_of
from hypersdk_kernel.security.secrets import check_references, resolve_secrets, vault_of
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import connections as rows
from hypersdk_kernel.store import jobs as job_rows
from hypersdk_kernel.store import subscriptions as subscription_rows
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.requests import RequestKey, once

_UPDATABLE = frozenset({"display_name", "labels", "config"})
_ALL = 1_000_000


class Connections:
    """What ConnectionService, the router and the dispatcher need of connections."""

    def __init__(self, store: Store, clock: Clock, registry: taskspec.Components, vaults: Vaults) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._vaults = vaults

    async def create(
        self,
        connection_id: str,
        component: str,
        config: Mapping[str, Any],
        *,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Connection:
        """Raises AlreadyExists (CONNECTION_EXISTS), InvalidArgument (SPEC_INVALID, COMPONENT_UNKNOWN,
        SECRET_IN_CONFIG)."""
        check_id(connection_id, "connection_id")
        await self._check(component, config)
        now = self._clock.now()
        new = Connection(
            connection_id, str(uuid.uuid4()), component, dict(config), now, now, display_name, dict(labels or {})
        )

        def change(tx: Tx) -> Connection:
            if rows.get(tx.conn, connection_id) is not None:
                raise AlreadyExists(
                    f"connections/{connection_id} exists already; choose another id, or update it",
                    reason="CONNECTION_EXISTS",
                    metadata={"name": new.name},
                )
            made = replace(new, revision=tx.new_revision())
            rows.add(tx.conn, made)
            tx.emit("connection.created", made.name, actor, _payload(made), revision=made.revision)
            return made

        if validate_only:
            if await self._store.read(lambda conn: rows.get(conn, connection_id)) is not None:
                raise AlreadyExists(f"connections/{connection_id} exists already", reason="CONNECTION_EXISTS")
            return new
        return await self._store.write(lambda tx: once(tx, key, *_CODEC, lambda: change(tx)))

    async def get(self, connection_id: str) -> Connection:
        """Raises NotFound (CONNECTION_NOT_FOUND)."""
        found = await self._store.near(lambda conn: rows.get(conn, connection_id))
        if found is None:
            raise _not_found(connection_id)
        return found

    async def page(self, limit: int, after: str, where: ColumnElement[bool] | None = None) -> list[Connection]:
        """Up to `limit` with an id above `after`, in order of id."""
        return await self._store.read(lambda conn: rows.page(conn, limit, after, where))

    async def count(self) -> int:
        return await self._store.read(rows.count)

    async def update(
        self,
        connection_id: str,
        changes: Mapping[str, Any],
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> Connection:
        """`changes`: new values of display_name, labels, config. Jobs that run keep what they were started with."""
        unknown = changes.keys() - _UPDATABLE
        if unknown:
            raise InvalidArgument(
                f"cannot update {', '.join(sorted(unknown))}; only {', '.join(sorted(_UPDATABLE))} can change",
                reason="FIELD_IMMUTABLE",
                violations=tuple(FieldViolation(f"connection.{f}", "cannot change") for f in sorted(unknown)),
            )
        if "config" in changes:
            await self._check((await self.get(connection_id)).component, changes["config"])

        def change(tx: Tx) -> Connection:
            old = _load(tx, connection_id, etag)
            new = replace(old, **changes, update_time=tx.now, revision=tx.new_revision())
            rows.save(tx.conn, new)
            tx.emit("connection.updated", new.name, actor, _payload(new), revision=new.revision)
            return new

        if validate_only:
            return replace(await self.get(connection_id), **changes)
        return await self._store.write(lambda tx: once(tx, key, *_CODEC, lambda: change(tx)))

    async def delete(
        self,
        connection_id: str,
        *,
        etag: str = "",
        actor: str,
        key: RequestKey | None = None,
        validate_only: bool = False,
    ) -> None:
        """Raises FailedPrecondition (CONNECTION_IN_USE) while a job that has not ended or a
        subscription names it, or another connection takes its secrets from it."""

        def check(tx: Tx) -> Connection:
            old = _load(tx, connection_id, etag)
            users = job_rows.using(tx.conn, connection_id, set(JobState) - TERMINAL, 5)
            if users:
                raise FailedPrecondition(
                    f"{old.name} is used by jobs that have not ended: {', '.join(users)}; wait for them or cancel them",
                    reason="CONNECTION_IN_USE",
                    metadata={"jobs": ",".join(users)},
                )
            served = self._secret_users(tx, old)[:5] if old.component.startswith("secrets/") else []
            if served:
                raise FailedPrecondition(
                    f"{old.name} has secrets of {', '.join(served)}; change or delete those first",
                    reason="CONNECTION_IN_USE",
                    metadata={"connections": ",".join(served)},
                )
            told = subscription_rows.using(tx.conn, connection_id, 5)
            if told:
                raise FailedPrecondition(
                    f"{old.name} is used by {', '.join(told)}; delete those first, or give them another connection",
                    reason="CONNECTION_IN_USE",
                    metadata={"subscriptions": ",".join(told)},
                )
            if not validate_only:
                rows.remove(tx.conn, connection_id)
                tx.emit("connection.deleted", old.name, actor, {})
            return old

        await self._store.write(lambda tx: once(tx, None if validate_only else key, *_CODEC, lambda: check(tx)))

    async def resolve(self, name: str) -> ResolvedConnection:
        """The connection with its secrets' values. Raises NotFound, and what the secret's source raises."""
        found = await self.get(id_of(name, "connections"))
        fields = self._registry.component(found.component).manifest.secret_fields()
        kept = {f: str(found.config[f]) for f in fields if vault_of(found.config.get(f))}
        config, secrets = resolve_secrets(found.config, [f for f in fields if f not in kept])
        for field, reference in kept.items():
            del config[field]
            secrets[field] = await self._vaults.value(reference, field, self.get)
        return ResolvedConnection(found.name, found.component, config, secrets)

    async def names(self, kind: str) -> list[str]:
        """Every connection whose component is of `kind`."""
        return await self._store.read(lambda conn: rows.names(conn, kind))

    async def components(self, ids: Iterable[str]) -> dict[str, str]:
        """id → component of those that exist."""
        wanted = list(ids)
        if not wanted:
            return {}
        found = await self._store.near(lambda conn: [rows.get(conn, i) for i in wanted])
        return {c.id: c.component for c in found if c is not None}

    async def _check(self, component: str, config: Mapping[str, Any]) -> None:
        try:
            manifest = self._registry.component(component).manifest
        except NotFound as exc:
            raise InvalidArgument(
                exc.message,
                reason="COMPONENT_UNKNOWN",
                violations=(FieldViolation("connection.component", exc.message),),
            ) from exc
        taskspec.validate(manifest.config_schema, dict(config), "connection.config", "the connection's config is wrong")
        fields = manifest.secret_fields()
        named = filter(None, (vault_of(config.get(field)) for field in fields))
        vault_needs_none = manifest.kind == "secrets"  # else two vaults could wait for each other
        found = {} if vault_needs_none else await self.components(named)
        check_references(config, fields, lambda i: found.get(i, "").startswith("secrets/"))

    def _secret_users(self, tx: Tx, vault: Connection) -> list[str]:
        """Connections that take a secret from `vault`. One whose plugin has gone is taken at its word."""
        found = []
        for user in rows.page(tx.conn, _ALL, ""):
            try:
                fields = self._registry.component(user.component).manifest.secret_fields()
            except NotFound:
                fields = tuple(user.config)
            if any(vault_of(user.config.get(field)) == vault.id for field in fields):
                found.append(user.name)
        return found


_CODEC = (codec.connection_to_json, codec.connection_from_json)


def _payload(connection: Connection) -> dict[str, Any]:
    return {"connection": codec.connection_to_json(connection)}


def _load(tx: Tx, connection_id: str, etag: str) -> Connection:
    found = rows.get(tx.conn, connection_id)
    if found is None:
        raise _not_found(connection_id)
    if etag and etag != found.etag:
        raise Aborted(
            f"{found.name} has changed since it was read; read it again and decide anew",
            reason="ETAG_MISMATCH",
            metadata={"etag": found.etag},
        )
    return found


def _not_found(connection_id: str) -> NotFound:
    return NotFound(
        f"there is no connection connections/{connection_id}; `hyperctl connection list` shows those there are",
        reason="CONNECTION_NOT_FOUND",
        metadata={"name": f"connections/{connection_id}"},
    )

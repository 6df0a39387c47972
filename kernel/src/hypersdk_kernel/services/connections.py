"""ConnectionService."""

from __future__ import annotations

import operator
import time
from typing import Any, Protocol

from google.protobuf.empty_pb2 import Empty
from hypersdk.api.connections.v1 import connections_pb2 as pb
from hypersdk.errors import FieldViolation, HyperError, InvalidArgument, NotFound

from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.model.connection import Connection, ResolvedConnection
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.values import dict_of, duration, struct, timestamp
from hypersdk_kernel.store.tables import connections as table

FILTER_FIELDS = {
    "name": Field(Kind.TEXT, operator.attrgetter("name"), "connections/" + table.c.id),
    "component": Field(Kind.TEXT, operator.attrgetter("component"), table.c.component),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}
_UPDATABLE = ("display_name", "labels", "config")
TEST_TIMEOUT_S = 30.0


class Components(Protocol):
    """hosting.registry.Registry, as far as this service needs it."""

    def turn(self, name: str) -> ActiveComponent: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as this service needs it."""

    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: dict[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]: ...


class ConnectionService(Service):
    """Keeps connections, and tests them."""

    descriptor = pb.DESCRIPTOR.services_by_name["ConnectionService"]

    def __init__(self, connections: Connections, registry: Components, hosts: Hosts) -> None:
        self._connections = connections
        self._registry = registry
        self._hosts = hosts

    async def create_connection(self, request: pb.CreateConnectionRequest, call: Call) -> pb.Connection:
        new = request.connection
        made = await self._connections.create(
            request.connection_id,
            new.component,
            dict_of(new.config, "connection.config"),
            display_name=new.display_name,
            labels=dict(new.labels),
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return _message(made)

    async def get_connection(self, request: pb.GetConnectionRequest, _call: Call) -> pb.Connection:
        return _message(await self._connections.get(id_of(request.name, "connections")))

    async def list_connections(
        self, request: pb.ListConnectionsRequest, _call: Call
    ) -> pb.ListConnectionsResponse:
        size = pages.page_size(request.page_size)
        asked = ("connections", request.filter)
        key = pages.key_of(request.page_token, (str,), *asked)
        where = parse(request.filter).sql(FILTER_FIELDS)
        rows = await self._connections.page(size + 1, key[0] if key else "", where)
        page, token = pages.cut(rows, size, lambda row: pages.token((row.id,), *asked))
        return pb.ListConnectionsResponse(connections=[_message(row) for row in page], next_page_token=token)

    async def update_connection(self, request: pb.UpdateConnectionRequest, call: Call) -> pb.Connection:
        given = request.connection
        connection_id = id_of(given.name, "connections", "connection.name")
        if given.component and given.component != (await self._connections.get(connection_id)).component:
            raise _immutable("component")
        made = await self._connections.update(
            connection_id,
            _changes(request),
            etag=given.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return _message(made)

    async def delete_connection(self, request: pb.DeleteConnectionRequest, call: Call) -> Empty:
        await self._connections.delete(
            id_of(request.name, "connections"),
            etag=request.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return Empty()

    async def test_connection(self, request: pb.TestConnectionRequest, call: Call) -> pb.TestConnectionResponse:
        """The platform's refusal is an answer, not an error of this call; only a connection that is not there is
        one."""
        started = time.monotonic()
        try:
            resolved = await self._connections.resolve(request.name)
            component = self._registry.turn(resolved.component)
            timeout_s = min(call.timeout_s, TEST_TIMEOUT_S)
            health = await self._hosts.call(component, "", "Health", {}, resolved, timeout_s)
        except HyperError as exc:
            if isinstance(exc, NotFound) and exc.reason == "CONNECTION_NOT_FOUND":
                raise
            latency = duration(time.monotonic() - started)
            return pb.TestConnectionResponse(message=exc.message, latency=latency, details={"reason": exc.reason})
        details = health.get("details")
        return pb.TestConnectionResponse(
            ok=health.get("ok") is True,
            message=str(health.get("message") or ""),
            latency=duration(time.monotonic() - started),
            details={str(k): str(v) for k, v in details.items()} if isinstance(details, dict) else {},
        )


def _changes(request: pb.UpdateConnectionRequest) -> dict[str, Any]:
    """What to set: what the mask names, or without one whatever is set in the message."""
    given = request.connection
    paths = tuple(request.update_mask.paths)
    if "*" in paths:
        paths = _UPDATABLE
    for path in paths:
        if path not in _UPDATABLE:
            raise _immutable(path)
    values: dict[str, Any] = {}
    if "display_name" in paths or (not paths and given.display_name):
        values["display_name"] = given.display_name
    if "labels" in paths or (not paths and given.labels):
        values["labels"] = dict(given.labels)
    if "config" in paths or (not paths and given.HasField("config")):
        values["config"] = dict_of(given.config, "connection.config")
    return values


def _immutable(path: str) -> InvalidArgument:
    rule = f"cannot be changed; these can: {', '.join(_UPDATABLE)}"
    return InvalidArgument(
        f"connection.{path[:80]} {rule}",
        reason="FIELD_IMMUTABLE",
        violations=(FieldViolation(f"connection.{path[:80]}", rule),),
    )


def _message(connection: Connection) -> pb.Connection:
    return pb.Connection(
        name=connection.name,
        uid=connection.uid,
        display_name=connection.display_name,
        labels=connection.labels,
        component=connection.component,
        config=struct(connection.config),
        create_time=timestamp(connection.create_time),
        update_time=timestamp(connection.update_time),
        etag=connection.etag,
    )

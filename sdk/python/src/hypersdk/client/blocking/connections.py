# Generated from aio/connections.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.connections: configured providers and storages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from hypersdk.api.connections.v1 import connections_pb2, connections_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Connections:
    """Calls of ConnectionService. Names are `connections/{connection}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = connections_pb2_grpc.ConnectionServiceStub(channel)
        self._caller = caller

    def create(
        self,
        connection_id: str,
        component: str,
        config: Mapping[str, Any],
        *,
        display_name: str = "",
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        validate_only: bool = False,
    ) -> connections_pb2.Connection:
        """Configure `component` (`provider/directory`, `storage/local`). Secrets in `config` are references
        (`env:NAME`, `file:/path`), never values. Raises AlreadyExists, InvalidArgument with violations."""
        connection = connections_pb2.Connection(
            component=component, display_name=display_name, labels=labels or {}
        )
        connection.config.update(config)
        request = connections_pb2.CreateConnectionRequest(
            connection=connection, connection_id=connection_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateConnection, request)

    def get(self, name: str) -> connections_pb2.Connection:
        """One connection. Raises NotFound."""
        return self._caller.unary(
            self._stub.GetConnection, connections_pb2.GetConnectionRequest(name=name)
        )

    def list(
        self, *, filter: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[connections_pb2.ListConnectionsResponse, connections_pb2.Connection]:
        """All connections that pass the filter (AIP-160 subset over `component` and `labels.*`)."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListConnections,
                connections_pb2.ListConnectionsRequest(filter=filter, page_size=page_size, page_token=token),
            ),
            lambda page: page.connections,
        )

    def update(
        self,
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        display_name: str | None = None,
        labels: Mapping[str, str] | None = None,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
    ) -> connections_pb2.Connection:
        """Replace what is given, leave what is None. Raises Aborted when the connection's etag is another."""
        connection = connections_pb2.Connection(
            name=name, etag=etag, display_name=display_name or "", labels=labels or {}
        )
        if config is not None:
            connection.config.update(config)
        given = {"config": config, "display_name": display_name, "labels": labels}
        request = connections_pb2.UpdateConnectionRequest(
            connection=connection,
            update_mask=FieldMask(paths=[path for path, value in given.items() if value is not None]),
            request_id=request_id,
            validate_only=validate_only,
        )
        return self._caller.unary(self._stub.UpdateConnection, request)

    def delete(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> None:
        """Forget a connection. Raises FailedPrecondition while a job that has not ended uses it."""
        request = connections_pb2.DeleteConnectionRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        self._caller.unary(self._stub.DeleteConnection, request)

    def test(
        self, name: str, *, timeout_s: float | None = 60.0
    ) -> connections_pb2.TestConnectionResponse:
        """Ask the plugin whether the platform can be reached as configured. An unreachable one is an answer
        (`ok` False), not an error."""
        request = connections_pb2.TestConnectionRequest(name=name)
        return self._caller.unary(self._stub.TestConnection, request, timeout_s)

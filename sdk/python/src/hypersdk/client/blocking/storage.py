# Generated from aio/storage.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.storage: objects in storage connections."""

from __future__ import annotations

import grpc

from hypersdk.api.storage.v1 import storage_pb2, storage_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Storage:
    """Calls of StorageService, answered by storage plugins. Object names are
    `connections/{connection}/objects/{key}`; keys may contain slashes."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = storage_pb2_grpc.StorageServiceStub(channel)
        self._caller = caller

    def list_objects(
        self, parent: str, *, prefix: str = "", page_size: int = 0
    ) -> Pager[storage_pb2.ListObjectsResponse, storage_pb2.Object]:
        """Objects of the connection `parent` whose keys start with `prefix`."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListObjects,
                storage_pb2.ListObjectsRequest(
                    parent=parent, prefix=prefix, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.objects,
        )

    def get_object(self, name: str) -> storage_pb2.Object:
        """Size, time and metadata of one object. Raises NotFound."""
        return self._caller.unary(self._stub.GetObject, storage_pb2.GetObjectRequest(name=name))

    def delete_object(self, name: str, *, request_id: str = "", validate_only: bool = False) -> None:
        """Delete an object; no error when it was not there."""
        request = storage_pb2.DeleteObjectRequest(
            name=name, request_id=request_id, validate_only=validate_only
        )
        self._caller.unary(self._stub.DeleteObject, request)

    def get_usage(self, connection: str, *, timeout_s: float | None = 60.0) -> storage_pb2.Usage:
        """Used and free bytes of `connections/{connection}`; -1 where the storage cannot tell."""
        request = storage_pb2.GetUsageRequest(name=f"{connection}/usage")
        return self._caller.unary(self._stub.GetUsage, request, timeout_s)

# Generated from aio/operations.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.operations: jobs as google.longrunning operations, for code that knows only those."""

from __future__ import annotations

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Operations:
    """Calls of google.longrunning.Operations."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller

    def get(self, name: str) -> operations_pb2.Operation:
        """One operation. Raises NotFound."""
        return self._caller.unary(
            self._stub.GetOperation, operations_pb2.GetOperationRequest(name=name)
        )

    def list(
        self, name: str = "operations", *, filter: str = "", page_size: int = 0  # noqa: A002
    ) -> Pager[operations_pb2.ListOperationsResponse, operations_pb2.Operation]:
        """The operations under the collection `name`."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListOperations,
                operations_pb2.ListOperationsRequest(
                    name=name, filter=filter, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.operations,
        )

    def wait(self, name: str, *, timeout_s: float = 30.0) -> operations_pb2.Operation:
        """The operation when it is done, or as it is after `timeout_s` seconds."""
        request = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=int(timeout_s)))
        return self._caller.unary(self._stub.WaitOperation, request, timeout_s + 5.0)

    def cancel(self, name: str) -> None:
        """Ask the operation to stop."""
        self._caller.unary(
            self._stub.CancelOperation, operations_pb2.CancelOperationRequest(name=name)
        )

"""client.operations: jobs as google.longrunning operations, for code that knows only those."""

from __future__ import annotations

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager


class AsyncOperations:
    """Calls of google.longrunning.Operations."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller

    async def get(self, name: str) -> operations_pb2.Operation:
        """One operation. Raises NotFound."""
        return await self._caller.unary(
            self._stub.GetOperation, operations_pb2.GetOperationRequest(name=name)
        )

    def list(
        self, name: str = "operations", *, filter: str = "", page_size: int = 0  # noqa: A002
    ) -> AsyncPager[operations_pb2.ListOperationsResponse, operations_pb2.Operation]:
        """The operations under the collection `name`."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListOperations,
                operations_pb2.ListOperationsRequest(
                    name=name, filter=filter, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.operations,
        )

    async def wait(self, name: str, *, timeout_s: float = 30.0) -> operations_pb2.Operation:
        """The operation when it is done, or as it is after `timeout_s` seconds."""
        request = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=int(timeout_s)))
        return await self._caller.unary(self._stub.WaitOperation, request, timeout_s + 5.0)

    async def cancel(self, name: str) -> None:
        """Ask the operation to stop."""
        await self._caller.unary(
            self._stub.CancelOperation, operations_pb2.CancelOperationRequest(name=name)
        )

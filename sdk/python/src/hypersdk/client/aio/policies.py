"""client.policies: the windows in which jobs may run."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from hypersdk.api.policies.v1 import policies_pb2, policies_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.aio.pager import AsyncPager


class AsyncPolicies:
    """Calls of PolicyService. Names are `windows/{window}`."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = policies_pb2_grpc.PolicyServiceStub(channel)
        self._caller = caller

    async def create_window(
        self, window_id: str, window: policies_pb2.Window, *, request_id: str = "", validate_only: bool = False
    ) -> policies_pb2.Window:
        """Raises AlreadyExists, InvalidArgument with violations."""
        request = policies_pb2.CreateWindowRequest(
            window=window, window_id=window_id, request_id=request_id, validate_only=validate_only
        )
        return await self._caller.unary(self._stub.CreateWindow, request)

    async def get_window(self, name: str) -> policies_pb2.Window:
        """`windows/{window}`. Raises NotFound."""
        return await self._caller.unary(self._stub.GetWindow, policies_pb2.GetWindowRequest(name=name))

    def list_windows(self, *, page_size: int = 0) -> AsyncPager[policies_pb2.ListWindowsResponse, policies_pb2.Window]:
        """All, newest first."""
        return AsyncPager(
            lambda token: self._caller.unary(
                self._stub.ListWindows, policies_pb2.ListWindowsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.windows,
        )

    async def update_window(
        self,
        window: policies_pb2.Window,
        fields: Sequence[str] = (),
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> policies_pb2.Window:
        """Set `fields`, or without any all, to what `window` says. Raises Aborted when its etag is set and another."""
        request = policies_pb2.UpdateWindowRequest(
            window=window, update_mask=FieldMask(paths=fields), request_id=request_id, validate_only=validate_only
        )
        return await self._caller.unary(self._stub.UpdateWindow, request)

    async def delete_window(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> None:
        """Raises NotFound, and FailedPrecondition while something needs it."""
        request = policies_pb2.DeleteWindowRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        await self._caller.unary(self._stub.DeleteWindow, request)

    async def evaluate_window(
        self, window: policies_pb2.Window | str, *, at: float | None = None, count: int = 0
    ) -> policies_pb2.EvaluateWindowResponse:
        """Whether a window, by name or unsaved, is open at `at` (seconds since the epoch; now), and its next `count`
        (5) openings."""
        request = policies_pb2.EvaluateWindowRequest(opening_count=count)
        if isinstance(window, str):
            request.name = window
        else:
            request.window.CopyFrom(window)
        if at is not None:
            request.time.CopyFrom(Timestamp(seconds=int(at), nanos=int(at % 1 * 1_000_000_000)))
        return await self._caller.unary(self._stub.EvaluateWindow, request)

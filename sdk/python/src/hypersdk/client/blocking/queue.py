# Generated from aio/queue.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.queue: in which order jobs start, and what keeps them from starting all at once."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.queue.v1 import queue_pb2, queue_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Queue:
    """Calls of QueueService. Names of limits are `limits/{limit}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = queue_pb2_grpc.QueueServiceStub(channel)
        self._caller = caller

    def get(self) -> queue_pb2.Queue:
        """How the queue stands."""
        return self._caller.unary(self._stub.GetQueue, queue_pb2.GetQueueRequest())

    def list(self, *, page_size: int = 0) -> Pager[queue_pb2.ListQueueResponse, queue_pb2.QueueEntry]:
        """Queued jobs in the order in which they would start."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListQueue, queue_pb2.ListQueueRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.entries,
        )

    def set_mode(
        self,
        mode: queue_pb2.QueueMode.ValueType,
        reason: str = "",
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> queue_pb2.Queue:
        """Open, drain or close the queue, on every kernel of the store and over restarts."""
        request = queue_pb2.SetQueueModeRequest(
            mode=mode, reason=reason, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.SetQueueMode, request)

    def move(
        self,
        name: str,
        *,
        natural: bool = False,
        etag: str = "",
        request_id: str = "",
        validate_only: bool = False,
    ) -> jobs_pb2.Job:
        """Put a job that waits before all others, or, `natural`, back to where its priority and age put it."""
        place = queue_pb2.QUEUE_PLACE_NATURAL if natural else queue_pb2.QUEUE_PLACE_FRONT
        request = queue_pb2.MoveJobRequest(
            name=name, place=place, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.MoveJob, request)

    def create_limit(
        self, limit_id: str, limit: queue_pb2.Limit, *, request_id: str = "", validate_only: bool = False
    ) -> queue_pb2.Limit:
        """Raises AlreadyExists, InvalidArgument with violations."""
        request = queue_pb2.CreateLimitRequest(
            limit=limit, limit_id=limit_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateLimit, request)

    def get_limit(self, name: str) -> queue_pb2.Limit:
        """`limits/{limit}`. Raises NotFound."""
        return self._caller.unary(self._stub.GetLimit, queue_pb2.GetLimitRequest(name=name))

    def list_limits(self, *, page_size: int = 0) -> Pager[queue_pb2.ListLimitsResponse, queue_pb2.Limit]:
        """All, newest first."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListLimits, queue_pb2.ListLimitsRequest(page_size=page_size, page_token=token)
            ),
            lambda page: page.limits,
        )

    def update_limit(
        self,
        limit: queue_pb2.Limit,
        fields: Sequence[str] = (),
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> queue_pb2.Limit:
        """Set `fields`, or without any all, to what `limit` says. Raises Aborted when its etag is set and another."""
        request = queue_pb2.UpdateLimitRequest(
            limit=limit, update_mask=FieldMask(paths=fields), request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.UpdateLimit, request)

    def delete_limit(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> None:
        """Raises NotFound, and FailedPrecondition while something needs it."""
        request = queue_pb2.DeleteLimitRequest(name=name, etag=etag, request_id=request_id, validate_only=validate_only)
        self._caller.unary(self._stub.DeleteLimit, request)

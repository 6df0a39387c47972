"""google.longrunning.Operations: every job is also an operation, so that generic clients can wait for one (AIP-151).

`operations/{job}` is `jobs/{job}`: `metadata` is the Job; when it has ended, `response` is the Job too, or `error`
says why. Operations are made by CreateJob and kept as long as their job, so DeleteOperation does not exist.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from google.longrunning import operations_pb2 as pb
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from hypersdk.errors import Cancelled, FieldViolation, InvalidArgument, from_json

from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.events.bus import Bus
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobs import list_page
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.services.status import status_of
from hypersdk_kernel.services.values import seconds_of

COLLECTION = "operations"
_ANSWER_S = 0.5
"""Kept back from the caller's deadline, so that "not done yet" arrives as an answer and not as DEADLINE_EXCEEDED."""
_MAX_FILTER = 2048


class OperationsService(Service):
    """Jobs for clients that know nothing of jobs."""

    descriptor: ClassVar[Any] = pb.DESCRIPTOR.services_by_name["Operations"]
    unserved = frozenset({"DeleteOperation"})

    def __init__(self, jobs: Jobs, bus: Bus) -> None:
        self._jobs = jobs
        self._bus = bus

    async def get_operation(self, request: Any, _call: Call) -> Any:
        return _operation(await self._jobs.get(_job_id(request.name)))

    async def list_operations(self, request: Any, _call: Call) -> Any:
        if request.name not in {"", COLLECTION}:
            raise _invalid("name", f"must be {COLLECTION}, or empty")
        if request.page_size < 0:
            raise _invalid("page_size", "must not be negative")
        if len(request.filter) > _MAX_FILTER:
            raise _invalid("filter", f"must have at most {_MAX_FILTER} characters")
        found, token = await list_page(self._jobs, request.page_size, request.page_token, request.filter, "")
        return pb.ListOperationsResponse(operations=[_operation(job) for job in found], next_page_token=token)

    async def cancel_operation(self, request: Any, call: Call) -> Empty:
        """Of an operation that is done, nothing is left to cancel: that is no error (AIP-151)."""
        job = await self._jobs.get(_job_id(request.name))
        if not job.terminal:
            await self._jobs.cancel(job.id, actor=call.actor)
        return Empty()

    async def wait_operation(self, request: Any, call: Call) -> Any:
        """When it is done, or as it is after the request's timeout or shortly before the call's deadline."""
        wait_s = call.timeout_s - _ANSWER_S
        if request.HasField("timeout"):
            wait_s = min(wait_s, seconds_of(request.timeout))
        until = time.monotonic() + wait_s
        job_id = _job_id(request.name)
        name = f"jobs/{job_id}"
        subscription = self._bus.subscribe(None, lambda event: event.subject == name)
        try:
            job = await self._jobs.get(job_id)
            while not job.terminal and (left := until - time.monotonic()) > 0:
                await subscription.next(left)
                job = await self._jobs.get(job_id)
        finally:
            subscription.close()
        return _operation(job)


def _operation(job: Job) -> Any:
    message = AnyMessage()
    message.Pack(job_message(job))
    out = pb.Operation(name=f"{COLLECTION}/{job.id}", metadata=message, done=job.terminal)
    if job.state is JobState.SUCCEEDED:
        out.response.CopyFrom(message)
    elif job.state is JobState.FAILED:
        out.error.CopyFrom(status_of(from_json(job.error or {})))
    elif job.state is JobState.CANCELLED:
        out.error.CopyFrom(status_of(Cancelled(job.state_message or "the job was cancelled", reason="JOB_CANCELLED")))
    return out


def _job_id(name: str) -> str:
    """Of `operations/x`, or of `jobs/x`, which people will try."""
    return id_of(name, "jobs") if name.startswith("jobs/") else id_of(name, COLLECTION)


def _invalid(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {rule}", reason="VALUE_INVALID", violations=(FieldViolation(field, rule),))

# Generated from aio/job_groups.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.job_groups: jobs that are submitted together and wait for each other."""

from __future__ import annotations

import grpc

from hypersdk.api.jobs.v1 import job_groups_pb2, job_groups_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class JobGroups:
    """Calls of JobGroupService. Names are `jobGroups/{job_group}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = job_groups_pb2_grpc.JobGroupServiceStub(channel)
        self._caller = caller

    def create(
        self,
        group: job_groups_pb2.JobGroup,
        *,
        group_id: str = "",
        request_id: str = "",
        validate_only: bool = False,
    ) -> job_groups_pb2.JobGroup:
        """Durably queue all jobs of a group, or none. Raises InvalidArgument (DEPENDENCY_CYCLE) naming a circle."""
        request = job_groups_pb2.CreateJobGroupRequest(
            job_group=group, job_group_id=group_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateJobGroup, request)

    def get(self, name: str) -> job_groups_pb2.JobGroup:
        """One group with its jobs as they are now. Raises NotFound."""
        return self._caller.unary(self._stub.GetJobGroup, job_groups_pb2.GetJobGroupRequest(name=name))

    def list(self, *, page_size: int = 0) -> Pager[job_groups_pb2.ListJobGroupsResponse, job_groups_pb2.JobGroup]:
        """All groups, newest first, without their jobs."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListJobGroups,
                job_groups_pb2.ListJobGroupsRequest(page_size=page_size, page_token=token),
            ),
            lambda page: page.job_groups,
        )

    def cancel(
        self, name: str, *, request_id: str = "", validate_only: bool = False
    ) -> job_groups_pb2.JobGroup:
        """Ask every job of the group that has not ended to stop."""
        request = job_groups_pb2.CancelJobGroupRequest(
            name=name, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CancelJobGroup, request)

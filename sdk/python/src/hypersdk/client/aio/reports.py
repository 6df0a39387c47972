"""client.reports: what became of the jobs of a time, summed up."""

from __future__ import annotations

import grpc

from hypersdk.api.reports.v1 import reports_pb2 as pb
from hypersdk.api.reports.v1 import reports_pb2_grpc
from hypersdk.client.aio.caller import AsyncCaller


class AsyncReports:
    """Calls of ReportService."""

    def __init__(self, channel: grpc.aio.Channel, caller: AsyncCaller) -> None:
        self._stub = reports_pb2_grpc.ReportServiceStub(channel)
        self._caller = caller

    async def jobs(
        self,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        filter: str = "",  # noqa: A002 - the API's name of it
        slowest: int = 0,
    ) -> pb.JobReport:
        """Of the jobs that ended in [start_s, end_s), seconds since the epoch; None: the 30 days before the end, and
        now. Raises InvalidArgument."""
        request = pb.ReportJobsRequest(filter=filter, slowest_count=slowest)
        if start_s is not None:
            request.start_time.FromMicroseconds(round(start_s * 1e6))
        if end_s is not None:
            request.end_time.FromMicroseconds(round(end_s * 1e6))
        return await self._caller.unary(self._stub.ReportJobs, request)

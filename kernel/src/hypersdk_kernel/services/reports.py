"""ReportService."""

from __future__ import annotations

import operator
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from hypersdk.api.reports.v1 import reports_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument
from sqlalchemy import Connection

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.values import duration, timestamp
from hypersdk_kernel.store import history
from hypersdk_kernel.store.history import Report, Slow, Sums
from hypersdk_kernel.store.tables import job_history as table

FILTER_FIELDS = {
    "name": Field(Kind.TEXT, operator.attrgetter("name"), "jobs/" + table.c.job_id),
    "task": Field(Kind.TEXT, operator.attrgetter("task"), table.c.task),
    "state": Field(Kind.ENUM, operator.attrgetter("state"), table.c.state, ("succeeded", "failed", "cancelled")),
    "owner": Field(Kind.TEXT, operator.attrgetter("owner"), table.c.owner),
    "reason": Field(Kind.TEXT, operator.attrgetter("reason"), table.c.reason),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}
DEFAULT_RANGE_S = 30 * 86_400.0
DEFAULT_SLOWEST = 10

T = TypeVar("T")


class Reader(Protocol):
    """What this service needs of the store."""

    def read(self, fn: Callable[[Connection], T]) -> Awaitable[T]: ...


class ReportService(Service):
    """Sums up. The database does it; what is held here is the answer."""

    descriptor = pb.DESCRIPTOR.services_by_name["ReportService"]

    def __init__(self, store: Reader, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def report_jobs(self, request: pb.ReportJobsRequest, _call: Call) -> pb.JobReport:
        end = _seconds(request.end_time) if request.HasField("end_time") else self._clock.now()
        start = _seconds(request.start_time) if request.HasField("start_time") else end - DEFAULT_RANGE_S
        if start >= end:
            rule = "must be before end_time"
            raise InvalidArgument(
                f"start_time {rule}", reason="VALUE_INVALID", violations=(FieldViolation("start_time", rule),)
            )
        where = parse(request.filter).sql(FILTER_FIELDS)
        slowest = request.slowest_count or DEFAULT_SLOWEST
        found = await self._store.read(lambda conn: history.report(conn, start, end, where, slowest))
        return _message(found, start, end)


def _message(report: Report, start: float, end: float) -> pb.JobReport:
    return pb.JobReport(
        start_time=timestamp(start),
        end_time=timestamp(end),
        total=_sums(report.total, ""),
        tasks=[_sums(sums, sums.key) for sums in report.tasks],
        connections=[_sums(sums, f"connections/{sums.key}") for sums in report.connections],
        days=[_sums(sums, _day(int(sums.key))) for sums in report.days],
        reasons=[pb.ReasonCount(reason=reason, job_count=count) for reason, count in report.reasons],
        slowest=[_slow(slow) for slow in report.slowest],
    )


def _sums(sums: Sums, key: str) -> pb.JobSums:
    out = pb.JobSums(
        key=key,
        job_count=sums.count,
        succeeded_count=sums.succeeded,
        failed_count=sums.failed,
        cancelled_count=sums.cancelled,
        attempt_count=sums.attempts,
        read_bytes=sums.bytes_read,
        written_bytes=sums.bytes_written,
        run_time=duration(sums.run_s),
        throughput_bytes=round(sums.bytes_read / sums.run_s) if sums.run_s > 0 else 0,
    )
    decided = sums.succeeded + sums.failed
    if decided:
        out.success_rate = sums.succeeded / decided
    for field, value in (
        (out.run_time_p50, sums.p50_s), (out.run_time_p95, sums.p95_s), (out.run_time_max, sums.longest_s),
        (out.wait_time_mean, sums.wait_s),
    ):  # fmt: skip
        if value is not None:
            field.CopyFrom(duration(value))
    return out


def _slow(slow: Slow) -> pb.SlowJob:
    return pb.SlowJob(
        name=f"jobs/{slow.job_id}",
        task=slow.task,
        state=slow.state.upper(),
        end_time=timestamp(slow.end_time),
        run_time=duration(slow.run_s),
        attempt_count=slow.attempts,
        read_bytes=slow.bytes_read,
        written_bytes=slow.bytes_written,
    )


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9


def _day(number: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))

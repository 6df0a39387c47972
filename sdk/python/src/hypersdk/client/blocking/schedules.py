# Generated from aio/schedules.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.schedules: jobs that are created at their times, from a template."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.schedules.v1 import schedules_pb2, schedules_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Schedules:
    """Calls of ScheduleService. Names are `schedules/{schedule}`."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = schedules_pb2_grpc.ScheduleServiceStub(channel)
        self._caller = caller

    def create(
        self,
        schedule_id: str,
        schedule: schedules_pb2.Schedule,
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> schedules_pb2.Schedule:
        """Keep a schedule: `cron` or `run_at`, and a `job_template` at least. Raises AlreadyExists, InvalidArgument
        with violations; also when its first job would be refused, or it would never run."""
        request = schedules_pb2.CreateScheduleRequest(
            schedule=schedule, schedule_id=schedule_id, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.CreateSchedule, request)

    def get(self, name: str) -> schedules_pb2.Schedule:
        """One schedule. Raises NotFound."""
        return self._caller.unary(self._stub.GetSchedule, schedules_pb2.GetScheduleRequest(name=name))

    def list(
        self, *, filter: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[schedules_pb2.ListSchedulesResponse, schedules_pb2.Schedule]:
        """All schedules that pass the filter (AIP-160 subset over `name`, `state`, `create_time`, `next_start_time`
        and `labels.*`)."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListSchedules,
                schedules_pb2.ListSchedulesRequest(filter=filter, page_size=page_size, page_token=token),
            ),
            lambda page: page.schedules,
        )

    def update(
        self,
        schedule: schedules_pb2.Schedule,
        fields: Sequence[str] = (),
        *,
        request_id: str = "",
        validate_only: bool = False,
    ) -> schedules_pb2.Schedule:
        """Set `fields` (`*`: all) to what `schedule` says; without any, all that are set in it. A changed timing
        counts from now on. Raises Aborted when its etag is set and another."""
        request = schedules_pb2.UpdateScheduleRequest(
            schedule=schedule,
            update_mask=FieldMask(paths=fields),
            request_id=request_id,
            validate_only=validate_only,
        )
        return self._caller.unary(self._stub.UpdateSchedule, request)

    def delete(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> None:
        """Forget a schedule. Its jobs stay, and go on."""
        request = schedules_pb2.DeleteScheduleRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        self._caller.unary(self._stub.DeleteSchedule, request)

    def pause(
        self, name: str, reason: str = "", *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> schedules_pb2.Schedule:
        """No occurrence counts until it is resumed."""
        request = schedules_pb2.PauseScheduleRequest(
            name=name, reason=reason, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.PauseSchedule, request)

    def resume(
        self, name: str, *, etag: str = "", request_id: str = "", validate_only: bool = False
    ) -> schedules_pb2.Schedule:
        """Occurrences count again, from now on."""
        request = schedules_pb2.ResumeScheduleRequest(
            name=name, etag=etag, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.ResumeSchedule, request)

    def run(self, name: str, *, request_id: str = "", validate_only: bool = False) -> jobs_pb2.Job:
        """A job now, beside the timetable. Raises FailedPrecondition where the overlap policy forbids it."""
        request = schedules_pb2.RunScheduleRequest(
            name=name, request_id=request_id, validate_only=validate_only
        )
        return self._caller.unary(self._stub.RunSchedule, request)

    def preview(
        self,
        schedule: schedules_pb2.Schedule | str,
        *,
        count: int = 0,
        after: float | None = None,
        time_zone: str = "",
    ) -> Sequence[schedules_pb2.PreviewedTime]:
        """The next `count` (10) times of a schedule, by name or unsaved, after `after` (seconds since the epoch; now).
        `time_zone`: of local_time; the schedule's own by default."""
        request = schedules_pb2.PreviewTimesRequest(count=count, time_zone=time_zone)
        if isinstance(schedule, str):
            request.name = schedule
        else:
            request.schedule.CopyFrom(schedule)
        if after is not None:
            request.after.FromMicroseconds(round(after * 1_000_000))
        answer = self._caller.unary(self._stub.PreviewTimes, request)
        return answer.times

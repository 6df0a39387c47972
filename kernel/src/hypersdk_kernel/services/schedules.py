"""ScheduleService."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.schedules.v1 import schedules_pb2 as pb
from sqlalchemy import case

from hypersdk_kernel.engine.schedules import Schedules
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.model.names import check_id, id_of
from hypersdk_kernel.model.schedule import Schedule
from hypersdk_kernel.model.timing import invalid, zone
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.services.scheduleviews import (
    changes_of,
    merged,
    schedule_message,
    timing_of,
    values_of,
)  # fmt: skip
from hypersdk_kernel.services.values import seconds_of, timestamp
from hypersdk_kernel.store.tables import schedules as table

FILTER_FIELDS = {
    "name": Field(Kind.TEXT, operator.attrgetter("name"), "schedules/" + table.c.id),
    "state": Field(
        Kind.ENUM,
        operator.attrgetter("state"),
        case((table.c.paused, "paused"), (table.c.next_start_time.is_(None), "finished"), else_="active"),
        ("active", "paused", "finished"),
    ),
    "create_time": Field(Kind.TIME, operator.attrgetter("create_time"), table.c.create_time),
    "next_start_time": Field(
        Kind.TIME, operator.attrgetter("status.next_start_time"), table.c.next_start_time
    ),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}
_PREVIEWED = 10


class ScheduleService(Service):
    """Keeps schedules. `check_message` raises InvalidArgument for a message that breaks its proto's constraints."""

    descriptor = pb.DESCRIPTOR.services_by_name["ScheduleService"]

    def __init__(self, schedules: Schedules, check_message: Callable[[Message], None]) -> None:
        self._schedules = schedules
        self._check = check_message

    async def create_schedule(self, request: pb.CreateScheduleRequest, call: Call) -> pb.Schedule:
        made = await self._schedules.create(
            request.schedule_id,
            values_of(request.schedule),
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return schedule_message(made)

    async def get_schedule(self, request: pb.GetScheduleRequest, _call: Call) -> pb.Schedule:
        return schedule_message(await self._schedules.get(id_of(request.name, "schedules")))

    async def list_schedules(self, request: pb.ListSchedulesRequest, _call: Call) -> pb.ListSchedulesResponse:
        size = pages.page_size(request.page_size)
        asked = ("schedules", request.filter)
        key = pages.key_of(request.page_token, (str,), *asked)
        where = parse(request.filter).sql(FILTER_FIELDS)
        rows = await self._schedules.page(size + 1, key[0] if key else "", where)
        page, token = pages.cut(rows, size, lambda row: pages.token((row.id,), *asked))
        return pb.ListSchedulesResponse(schedules=[schedule_message(row) for row in page], next_page_token=token)

    async def update_schedule(self, request: pb.UpdateScheduleRequest, call: Call) -> pb.Schedule:
        given = request.schedule
        schedule_id = id_of(given.name, "schedules", "schedule.name")
        current = await self._schedules.get(schedule_id)
        wanted, named = merged(schedule_message(current), given, tuple(request.update_mask.paths))
        self._check(wanted)
        made = await self._schedules.update(
            schedule_id,
            changes_of(wanted, named),
            etag=given.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return schedule_message(made)

    async def delete_schedule(self, request: pb.DeleteScheduleRequest, call: Call) -> Empty:
        await self._schedules.delete(
            id_of(request.name, "schedules"),
            etag=request.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return Empty()

    async def pause_schedule(self, request: pb.PauseScheduleRequest, call: Call) -> pb.Schedule:
        made = await self._schedules.pause(
            id_of(request.name, "schedules"),
            request.reason,
            etag=request.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return schedule_message(made)

    async def resume_schedule(self, request: pb.ResumeScheduleRequest, call: Call) -> pb.Schedule:
        made = await self._schedules.resume(
            id_of(request.name, "schedules"),
            etag=request.etag,
            actor=call.actor,
            key=call.key,
            validate_only=request.validate_only,
        )
        return schedule_message(made)

    async def run_schedule(self, request: pb.RunScheduleRequest, call: Call) -> jobs_pb2.Job:
        job = await self._schedules.run(
            id_of(request.name, "schedules"), actor=call.actor, key=call.key, validate_only=request.validate_only
        )
        return job_message(job)

    async def preview_times(self, request: pb.PreviewTimesRequest, call: Call) -> pb.PreviewTimesResponse:
        asked = zone(request.time_zone) if request.time_zone else None
        if bool(request.name) == request.HasField("schedule"):
            raise invalid("name", "give either the name of a schedule or a schedule")
        if request.name:
            schedule = await self._schedules.get(id_of(request.name, "schedules"))
        else:
            schedule = self._unsaved(request.schedule, call.actor)
        there = asked or zone(schedule.timing.time_zone)
        after = None
        if request.HasField("after"):
            after = request.after.seconds + request.after.nanos / 1e9
        out = pb.PreviewTimesResponse()
        for occurrence, begins in await self._schedules.preview(schedule, after, request.count or _PREVIEWED):
            local = dt.datetime.fromtimestamp(occurrence, there).isoformat(timespec="seconds")
            out.times.add(scheduled_time=timestamp(occurrence), start_time=timestamp(begins), local_time=local)
        return out

    def _unsaved(self, message: pb.Schedule, actor: str) -> Schedule:
        """As far as its times need it; jitter is drawn from its name."""
        timing = timing_of(message)
        schedule_id = check_id(message.name.removeprefix("schedules/") or "unsaved", "schedule.name")
        values = {"timing": timing, "template": {}, "jitter_s": seconds_of(message.jitter)}
        return self._schedules.draft(schedule_id, values, actor)

"""JobService."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from typing import Any

from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument, NotFound
from sqlalchemy import case

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.explain import Explainer
from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.names import id_of
from hypersdk_kernel.services import logs, pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobviews import attempt_message, job_message, new_job
from hypersdk_kernel.services.streaming import Part
from hypersdk_kernel.services.values import struct, timestamp
from hypersdk_kernel.services.watch import JobWatcher
from hypersdk_kernel.store.tables import jobs as table


def _group_column() -> Any:
    return case((table.c.job_group == "", None), else_="jobGroups/" + table.c.job_group)


FILTER_FIELDS = {
    "name": Field(
        Kind.TEXT, operator.attrgetter("name"), "jobs/" + table.c.id, prefix="jobs/", stored=table.c.id
    ),
    "task": Field(Kind.TEXT, operator.attrgetter("task"), table.c.task),
    "state": Field(Kind.ENUM, operator.attrgetter("state"), table.c.state, tuple(s.value for s in JobState)),
    "schedule": Field(Kind.TEXT, lambda job: f"schedules/{job.schedule}" if job.schedule else None, table.c.schedule),
    "priority": Field(Kind.NUMBER, operator.attrgetter("priority"), table.c.priority),
    "create_time": Field(Kind.TIME, operator.attrgetter("create_time"), table.c.create_time),
    "update_time": Field(Kind.TIME, operator.attrgetter("update_time"), table.c.update_time),
    "group": Field(
        Kind.TEXT, lambda job: f"jobGroups/{job.group}" if job.group else None, _group_column(),
        prefix="jobGroups/", stored=table.c.job_group,
    ),
    "labels": Field(Kind.MAP, operator.attrgetter("labels"), lambda key: table.c.labels[key].as_string()),
}  # fmt: skip
_ORDERS = ("create_time desc", "create_time", "update_time desc", "update_time")
_MESSAGES_KEPT = 1024
_LOG_KEYS = frozenset({"time", "level", "event"})


class JobService(Service):
    """Submits, follows and steers jobs."""

    descriptor = pb.DESCRIPTOR.services_by_name["JobService"]

    def __init__(self, jobs: Jobs, watcher: JobWatcher, explainer: Explainer, dispatcher: Dispatcher) -> None:
        self._jobs = jobs
        self._explainer = explainer
        self._dispatcher = dispatcher
        self._watcher = watcher
        self._messages: dict[str, tuple[Job, pb.Job]] = {}
        """Of jobs asked for lately: making one costs 24 µs of a call's 340. Never changed once they are here."""

    async def create_job(self, request: pb.CreateJobRequest, call: Call) -> pb.Job:
        new = new_job(request)
        made = await self._jobs.create(new, actor=call.actor, key=call.key, validate_only=request.validate_only)
        return job_message(made, request.job.spec if made.id == new.id else None)

    async def batch_create_jobs(self, request: pb.BatchCreateJobsRequest, call: Call) -> pb.BatchCreateJobsResponse:
        news = [new_job(each) for each in request.requests]
        made = await self._jobs.create_many(
            news, actor=call.actor, key=call.key, validate_only=request.validate_only
        )
        return pb.BatchCreateJobsResponse(jobs=[job_message(job) for job in made])

    async def explain_job(self, request: pb.ExplainJobRequest, _call: Call) -> pb.JobExplanation:
        job = await self._jobs.get(id_of(request.name, "jobs"))
        await self._jobs.some([dependency.job_id for dependency in job.dependencies])  # for the gate, which asks nobody
        found = self._explainer.explain(job)
        return pb.JobExplanation(
            job=job_message(job),
            summary=found.summary,
            hindrances=[
                pb.JobHindrance(
                    reason=hold.reason,
                    message=hold.message,
                    remedy=hold.remedy,
                    until=None if hold.until is None else timestamp(hold.until),
                )
                for hold in found.hindrances
            ],
            queue_position=found.queue_position,
            running_runners=self._dispatcher.running,
            max_runners=self._dispatcher.settings.max_runners,
        )

    async def get_job(self, request: pb.GetJobRequest, _call: Call) -> pb.Job:
        job = await self._jobs.get(id_of(request.name, "jobs"))
        held = self._messages.get(job.id)
        if held is not None and held[0] is job:
            return held[1]
        message = job_message(job)
        if len(self._messages) >= _MESSAGES_KEPT:
            self._messages.clear()
        self._messages[job.id] = (job, message)
        return message

    async def list_jobs(self, request: pb.ListJobsRequest, _call: Call) -> pb.ListJobsResponse:
        found, token = await list_page(
            self._jobs, request.page_size, request.page_token, request.filter, request.order_by
        )
        return pb.ListJobsResponse(jobs=[job_message(job) for job in found], next_page_token=token)

    async def cancel_job(self, request: pb.CancelJobRequest, call: Call) -> pb.Job:
        return job_message(await self._jobs.cancel(id_of(request.name, "jobs"), **_change(request, call)))

    async def pause_job(self, request: pb.PauseJobRequest, call: Call) -> pb.Job:
        return job_message(await self._jobs.pause(id_of(request.name, "jobs"), **_change(request, call)))

    async def resume_job(self, request: pb.ResumeJobRequest, call: Call) -> pb.Job:
        return job_message(await self._jobs.resume(id_of(request.name, "jobs"), **_change(request, call)))

    async def retry_job(self, request: pb.RetryJobRequest, call: Call) -> pb.Job:
        job_id = id_of(request.name, "jobs")
        return job_message(await self._jobs.retry(job_id, repin=request.repin, **_change(request, call)))

    def watch_jobs(self, request: pb.WatchJobsRequest, _call: Call) -> AsyncIterator[Part]:
        return self._watcher.stream(request)

    async def list_attempts(self, request: pb.ListAttemptsRequest, _call: Call) -> pb.ListAttemptsResponse:
        size = pages.page_size(request.page_size)
        key = pages.key_of(request.page_token, (int,), "attempts", request.parent)
        after = key[0] if key else 0
        rows = await self._jobs.attempts(id_of(request.parent, "jobs", "parent"), size + 1, after)
        page, token = pages.cut(rows, size, lambda row: pages.token((row.number,), "attempts", request.parent))
        return pb.ListAttemptsResponse(attempts=[attempt_message(row) for row in page], next_page_token=token)

    async def stream_logs(self, request: pb.StreamLogsRequest, _call: Call) -> AsyncIterator[pb.StreamLogsResponse]:
        job = await self._jobs.get(id_of(request.name, "jobs"))
        number = request.attempt or job.attempt_count
        if number > job.attempt_count:
            raise NotFound(
                f"{job.name} has no attempt {number}; the last is {job.attempt_count}; leave `attempt` out for it",
                reason="ATTEMPT_NOT_FOUND",
            )
        if number == 0:
            return

        async def ended() -> bool:
            return not self._jobs.attempt_is_open(await self._jobs.get(job.id), number)

        path = self._jobs.attempt_dir(job.uid, number) / "log.jsonl"
        if job.terminal and not path.parent.exists():
            raise NotFound(
                f"the log of {job.name} is kept no more; log_retention_s says how long it would be",
                reason="LOG_GONE",
            )
        async for record in logs.follow(path, ended if request.follow else None):
            yield _log_message(record, number)


async def list_page(jobs: Jobs, size: int, token: str, filter_: str, order_by: str) -> tuple[list[Job], str]:
    """A page of jobs and the token of the next. Raises InvalidArgument (FILTER_INVALID, ORDER_INVALID,
    PAGE_TOKEN_INVALID)."""
    size = pages.page_size(size)
    order = " ".join(order_by.split()) or _ORDERS[0]
    if order not in _ORDERS:
        rule = f"must be one of: {', '.join(_ORDERS)}"
        raise InvalidArgument(
            f"order_by {rule}", reason="ORDER_INVALID", violations=(FieldViolation("order_by", rule),)
        )
    column = order.partition(" ")[0]
    asked = parse(filter_)
    rows = await jobs.page(
        size + 1,
        order=column,
        descending=order.endswith(" desc"),
        after=pages.key_of(token, (float, str), "jobs", filter_, order),
        where=asked.sql(FILTER_FIELDS),
        label=asked.demanded("labels"),
    )
    page, next_token = pages.cut(
        rows, size, lambda job: pages.token((getattr(job, column), job.id), "jobs", filter_, order)
    )
    return list(page), next_token


def _change(request: Any, call: Call) -> dict[str, Any]:
    return {
        "actor": call.actor, "etag": request.etag, "key": call.key, "validate_only": request.validate_only
    }  # fmt: skip


def _log_message(record: dict[str, Any], attempt: int) -> pb.StreamLogsResponse:
    when = record.get("time")
    fields = record.get("fields")
    if not isinstance(fields, dict):
        fields = {key: value for key, value in record.items() if key not in _LOG_KEYS}
    return pb.StreamLogsResponse(
        time=timestamp(when) if isinstance(when, int | float) else None,
        level=str(record.get("level", "info")),
        event=str(record.get("event", "")),
        fields=struct(fields),
        attempt=attempt,
    )

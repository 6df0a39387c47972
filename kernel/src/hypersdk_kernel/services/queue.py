"""QueueService: the queue, and the limits on what it starts."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.queue.v1 import queue_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.engine.dispatcher import Dispatcher
from hypersdk_kernel.engine.documents import Documents
from hypersdk_kernel.engine.jobs import Jobs
from hypersdk_kernel.engine.maintenance import Mode, QueueControl
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.limit import ANY, Limit, Scope
from hypersdk_kernel.model.names import check_id, id_of
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.services.masks import merged
from hypersdk_kernel.services.values import duration, seconds_of, timestamp

_MODES = {mode: pb.QueueMode.Value(f"QUEUE_MODE_{mode.name}") for mode in Mode}
_MODE_OF = {value: mode for mode, value in _MODES.items()}
_SCOPES = {scope: pb.LimitScope.Value(f"LIMIT_SCOPE_{scope.name}") for scope in Scope}
_SCOPE_OF = {value: scope for scope, value in _SCOPES.items()}
_PERIOD_S = 60.0


class QueueService(Service):
    """Shows and steers the queue; keeps limits."""

    descriptor = pb.DESCRIPTOR.services_by_name["QueueService"]

    def __init__(
        self,
        clock: Clock,
        control: QueueControl,
        dispatcher: Dispatcher,
        jobs: Jobs,
        limits: Documents[Limit],
        windows: WindowBook,
    ) -> None:
        self._clock = clock
        self._control = control
        self._dispatcher = dispatcher
        self._jobs = jobs
        self._limits = limits
        self._windows = windows

    async def get_queue(self, _request: pb.GetQueueRequest, _call: Call) -> pb.Queue:
        return pb.Queue(
            mode=_MODES[self._control.mode],
            reason=self._control.mode_reason,
            queued_count=len(self._dispatcher.queue),
            held_count=len(self._dispatcher.admission.held),
            running_count=self._dispatcher.running,
            max_runners=self._dispatcher.settings.max_runners,
        )

    async def list_queue(self, request: pb.ListQueueRequest, _call: Call) -> pb.ListQueueResponse:
        """The token is a position: the queue moves while it is listed."""
        size = pages.page_size(request.page_size)
        key = pages.key_of(request.page_token, (int,), "queue")
        start = key[0] if key else 0
        queue, now = self._dispatcher.queue, self._clock.now()
        order = [place[3] for place in sorted(queue.orders())]
        out = pb.ListQueueResponse()
        shown = order[start : start + size]
        jobs = await self._jobs.some(shown)
        for position, job_id in enumerate(shown, start):
            job = jobs.get(job_id)
            if job is not None:
                out.entries.add(job=job_message(job), position=position, blocked_by=queue.blocked_by(job_id, now))
        if start + size < len(order):
            out.next_page_token = pages.token((start + size,), "queue")
        return out

    async def set_queue_mode(self, request: pb.SetQueueModeRequest, call: Call) -> pb.Queue:
        """The answer counts the queue as it stood when the mode was set; to a repetition too."""
        queue = await self.get_queue(pb.GetQueueRequest(), call)
        if request.validate_only:
            return queue
        queue.mode, queue.reason = request.mode, request.reason
        told = await self._control.set_mode(
            _MODE_OF[request.mode], request.reason, actor=call.actor, key=call.key, answer=MessageToDict(queue)
        )
        return ParseDict(told, pb.Queue())

    async def move_job(self, request: pb.MoveJobRequest, call: Call) -> jobs_pb2.Job:
        job = await self._control.move(
            id_of(request.name, "jobs"),
            front=request.place != pb.QUEUE_PLACE_NATURAL,
            actor=call.actor,
            etag=request.etag,
            key=call.key,
            validate_only=request.validate_only,
        )
        return job_message(job)

    async def create_limit(self, request: pb.CreateLimitRequest, call: Call) -> pb.Limit:
        check_id(request.limit_id, "limit_id")
        await self._look_up_window(request.limit)
        made = await self._limits.create(
            self._limit_of(request.limit, request.limit_id),
            actor=call.actor, key=call.key, validate_only=request.validate_only,
        )  # fmt: skip
        await self._control.settled()
        return _message(made)

    async def get_limit(self, request: pb.GetLimitRequest, _call: Call) -> pb.Limit:
        return _message(await self._limits.get(id_of(request.name, "limits")))

    async def list_limits(self, request: pb.ListLimitsRequest, _call: Call) -> pb.ListLimitsResponse:
        size = pages.page_size(request.page_size)
        rows = await self._limits.page(size + 1, pages.key_of(request.page_token, (float, str), "limits"))
        page, token = pages.cut(rows, size, lambda row: pages.token((row.create_time, row.id), "limits"))
        return pb.ListLimitsResponse(limits=[_message(limit) for limit in page], next_page_token=token)

    async def update_limit(self, request: pb.UpdateLimitRequest, call: Call) -> pb.Limit:
        limit_id = id_of(request.limit.name, "limits", "limit.name")
        await self._look_up_window(request.limit)

        def change(old: Limit) -> Limit:
            return self._limit_of(merged(_message(old), request.limit, request.update_mask), limit_id)

        made = await self._limits.update(
            limit_id, change, etag=request.limit.etag, actor=call.actor, key=call.key,
            validate_only=request.validate_only,
        )  # fmt: skip
        await self._control.settled()
        return _message(made)

    async def delete_limit(self, request: pb.DeleteLimitRequest, call: Call) -> Empty:
        await self._limits.delete(
            id_of(request.name, "limits"),
            etag=request.etag, actor=call.actor, key=call.key, validate_only=request.validate_only,
        )  # fmt: skip
        await self._control.settled()
        return Empty()

    async def _look_up_window(self, message: pb.Limit) -> None:
        """So that `_limit_of`, which may run in the writer's thread, finds a window that was made a moment ago."""
        if message.window:
            await self._windows.known(id_of(message.window, "windows", "limit.window"))

    def _limit_of(self, message: pb.Limit, limit_id: str) -> Limit:
        """Raises InvalidArgument (VALUE_INVALID, WINDOW_UNKNOWN)."""
        scope = _SCOPE_OF.get(message.scope)
        if scope is None:
            raise _invalid("scope", "says what the limit counts by, and is needed", "VALUE_INVALID")
        if (scope is Scope.LABEL) is not bool(message.label):
            raise _invalid("label", "goes with scope LABEL, and only with it", "VALUE_INVALID")
        if (scope is Scope.ALL) is bool(message.value):
            raise _invalid("value", "is needed for every scope but ALL; `*` is each by itself", "VALUE_INVALID")
        if not (message.max_running or message.max_starts or message.bandwidth_limit_bytes):
            raise _invalid("max_running", "limits nothing; set one of the limits", "VALUE_INVALID")
        window = id_of(message.window, "windows", "limit.window") if message.window else ""
        if window and self._windows.get(window) is None:
            raise _invalid("window", f"windows/{window} does not exist", "WINDOW_UNKNOWN")
        value = message.value
        collection = {Scope.CONNECTION: "connections/", Scope.REPOSITORY: "repositories/"}.get(scope)
        if collection is not None and value != ANY:
            value = value.removeprefix(collection)
        return Limit(
            id=limit_id,
            scope=scope,
            value=value,
            label=message.label,
            max_running=message.max_running,
            max_starts=message.max_starts,
            period_s=seconds_of(message.period) or _PERIOD_S,
            bandwidth_bytes=message.bandwidth_limit_bytes,
            window=window,
            display_name=message.display_name,
        )


def _message(limit: Limit) -> pb.Limit:
    return pb.Limit(
        name=limit.name,
        display_name=limit.display_name,
        scope=_SCOPES[limit.scope],
        value=limit.value,
        label=limit.label,
        max_running=limit.max_running,
        max_starts=limit.max_starts,
        period=duration(limit.period_s),
        bandwidth_limit_bytes=limit.bandwidth_bytes,
        window=f"windows/{limit.window}" if limit.window else "",
        create_time=timestamp(limit.create_time) if limit.create_time else None,
        update_time=timestamp(limit.update_time) if limit.update_time else None,
        etag=limit.etag if limit.revision else "",
    )


def _invalid(field: str, rule: str, reason: str) -> InvalidArgument:
    return InvalidArgument(
        f"limit.{field}: {rule}", reason=reason, violations=(FieldViolation(f"limit.{field}", rule),)
    )

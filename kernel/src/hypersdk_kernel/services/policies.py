"""PolicyService: windows."""

from __future__ import annotations

from dataclasses import replace

from google.protobuf.empty_pb2 import Empty
from hypersdk.api.policies.v1 import policies_pb2 as pb
from hypersdk.errors import FailedPrecondition, FieldViolation, InvalidArgument

from hypersdk_kernel.engine.documents import Documents
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.holiday import holiday
from hypersdk_kernel.model.limit import Limit
from hypersdk_kernel.model.names import check_id, id_of
from hypersdk_kernel.model.window import Window, phase
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.masks import merged
from hypersdk_kernel.services.values import seconds, timestamp
from hypersdk_kernel.services.windowviews import window_message, window_of
from hypersdk_kernel.store import documents, jobs
from hypersdk_kernel.store.engine import Tx

_OPENINGS = 5


class PolicyService(Service):
    """Keeps time windows and says when they are open."""

    descriptor = pb.DESCRIPTOR.services_by_name["PolicyService"]

    def __init__(self, clock: Clock, windows: Documents[Window], book: WindowBook, limits: Documents[Limit]) -> None:
        self._clock = clock
        self._windows = windows
        self._book = book
        self._limits = limits

    async def create_window(self, request: pb.CreateWindowRequest, call: Call) -> pb.Window:
        check_id(request.window_id, "window_id")
        made = await self._windows.create(
            window_of(request.window, request.window_id),
            actor=call.actor, key=call.key, validate_only=request.validate_only,
        )  # fmt: skip
        await self._book.settled()
        return self._message(made)

    async def get_window(self, request: pb.GetWindowRequest, _call: Call) -> pb.Window:
        return self._message(await self._windows.get(id_of(request.name, "windows")))

    async def list_windows(self, request: pb.ListWindowsRequest, _call: Call) -> pb.ListWindowsResponse:
        size = pages.page_size(request.page_size)
        rows = await self._windows.page(size + 1, pages.key_of(request.page_token, (float, str), "windows"))
        page, token = pages.cut(rows, size, lambda w: pages.token((w.create_time, w.id), "windows"))
        return pb.ListWindowsResponse(windows=[self._message(window) for window in page], next_page_token=token)

    async def update_window(self, request: pb.UpdateWindowRequest, call: Call) -> pb.Window:
        window_id = id_of(request.window.name, "windows", "window.name")

        def change(old: Window) -> Window:
            return window_of(merged(window_message(old, None), request.window, request.update_mask), window_id)

        made = await self._windows.update(
            window_id, change, etag=request.window.etag, actor=call.actor, key=call.key,
            validate_only=request.validate_only,
        )  # fmt: skip
        await self._book.settled()
        return self._message(made)

    async def delete_window(self, request: pb.DeleteWindowRequest, call: Call) -> Empty:
        window_id = id_of(request.name, "windows")

        def refuse(tx: Tx) -> None:
            users = [f"jobs/{i}" for i in jobs.in_window(tx.conn, window_id, 5)]
            limits = (self._limits.kind.decode(d.body) for d in documents.every(tx.conn, self._limits.kind.noun))
            users += [limit.name for limit in limits if limit.window == window_id]
            if users:
                raise FailedPrecondition(
                    f"{request.name} is used by {', '.join(users[:5])}; let them end or change them first",
                    reason="WINDOW_IN_USE",
                    metadata={"users": ",".join(users[:5])},
                )

        await self._windows.delete(
            window_id, etag=request.etag, actor=call.actor, key=call.key, validate_only=request.validate_only,
            refuse=refuse,
        )  # fmt: skip
        await self._book.settled()
        return Empty()

    async def evaluate_window(self, request: pb.EvaluateWindowRequest, _call: Call) -> pb.EvaluateWindowResponse:
        if bool(request.name) is request.HasField("window"):
            rule = "exactly one of name and window must be given"
            raise InvalidArgument(rule, reason="VALUE_INVALID", violations=(FieldViolation("name", rule),))
        if request.name:
            window = await self._windows.get(id_of(request.name, "windows"))
        else:
            window = replace(window_of(request.window, "unsaved"), revision=-1)
        now = seconds(request.time) if request.HasField("time") else self._clock.now()
        first = phase(window, now, holiday)
        out = pb.EvaluateWindowResponse(open=first.open, reason=first.why)
        at, found = now, first
        for _ in range(2 * (request.opening_count or _OPENINGS)):
            if found.open:
                out.openings.add(
                    start_time=timestamp(at), end_time=None if found.until is None else timestamp(found.until)
                )
            if found.until is None or len(out.openings) == (request.opening_count or _OPENINGS):
                break
            at = found.until
            found = phase(window, at, holiday)
        return out

    def _message(self, window: Window) -> pb.Window:
        return window_message(window, self._book.phase_of(window, self._clock.now()))

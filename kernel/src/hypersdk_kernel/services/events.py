"""EventService."""

from __future__ import annotations

import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from hypersdk.api.events.v1 import events_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument
from sqlalchemy import Connection

from hypersdk_kernel.events.bus import Bus
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.streaming import Page, Part, Written
from hypersdk_kernel.services.values import struct, timestamp
from hypersdk_kernel.store import events as rows
from hypersdk_kernel.store.tables import events as table

FILTER_FIELDS = {
    "type": Field(Kind.TEXT, operator.attrgetter("type"), table.c.type),
    "subject": Field(Kind.TEXT, operator.attrgetter("subject"), table.c.subject),
    "actor": Field(Kind.TEXT, operator.attrgetter("actor"), table.c.actor),
    "time": Field(Kind.TIME, operator.attrgetter("time"), table.c.time),
}
_WRITTEN = 1024
"""Events whose messages are kept for other watchers."""
_ORDERS = ("revision", "revision desc")

T = TypeVar("T")


class Reader(Protocol):
    """What this service needs of the store."""

    def read(self, fn: Callable[[Connection], T]) -> Awaitable[T]: ...


class EventService(Service):
    """Reads the event log. `heartbeat_s`: a silent stream says that it lives, seconds."""

    descriptor = pb.DESCRIPTOR.services_by_name["EventService"]

    def __init__(self, store: Reader, bus: Bus, heartbeat_s: float) -> None:
        self._store = store
        self._bus = bus
        self._heartbeat_s = heartbeat_s
        self._written = Written(_told, _WRITTEN)

    async def list_events(self, request: pb.ListEventsRequest, _call: Call) -> pb.ListEventsResponse:
        size = pages.page_size(request.page_size)
        order = " ".join(request.order_by.split()) or _ORDERS[0]
        if order not in _ORDERS:
            rule = f"must be one of: {', '.join(_ORDERS)}"
            raise InvalidArgument(
                f"order_by {rule}", reason="ORDER_INVALID", violations=(FieldViolation("order_by", rule),)
            )
        asked = ("events", request.filter, order)
        key = pages.key_of(request.page_token, (int,), *asked)
        where = parse(request.filter).sql(FILTER_FIELDS)
        after, newest_first = (key[0] if key else 0), order.endswith(" desc")
        found = await self._store.read(
            lambda conn: rows.page(conn, after, size + 1, where, newest_first=newest_first)
        )
        page, token = pages.cut(found, size, lambda event: pages.token((event.revision,), *asked))
        return pb.ListEventsResponse(events=[_event_message(event) for event in page], next_page_token=token)

    async def watch_events(
        self, request: pb.WatchEventsRequest, _call: Call
    ) -> AsyncIterator[Part]:
        accepts = parse(request.filter).predicate(FILTER_FIELDS) if request.filter else None
        subscription = self._bus.subscribe(request.since_revision or None, accepts)
        try:
            # At once, so that a client knows from when on it misses nothing.
            yield pb.WatchEventsResponse(revision=subscription.position)
            while True:
                started = time.monotonic()
                event = await subscription.next(self._heartbeat_s)
                if event is not None:
                    yield Page(self._written.of(each.revision, each) for each in (event, *subscription.waiting()))
                elif time.monotonic() - started >= self._heartbeat_s / 2:
                    yield pb.WatchEventsResponse(revision=subscription.position)
        finally:
            subscription.close()


def _told(event: Event) -> bytes:
    return pb.WatchEventsResponse(revision=event.revision, event=_event_message(event)).SerializeToString()


def _event_message(event: Event) -> pb.Event:
    return pb.Event(
        name=f"events/{event.revision}",
        revision=event.revision,
        time=timestamp(event.time),
        type=event.type,
        subject=event.subject,
        actor=event.actor,
        payload=struct(event.payload),
    )

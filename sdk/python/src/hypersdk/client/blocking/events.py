# Generated from aio/events.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.events: the durable, numbered record of what changed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import grpc

from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Events:
    """Calls of EventService."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = events_pb2_grpc.EventServiceStub(channel)
        self._caller = caller

    def list(
        self, *, filter: str = "", order_by: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[events_pb2.ListEventsResponse, events_pb2.Event]:
        """Events that pass the filter (AIP-160 subset over `type`, `subject`, `actor`), oldest first."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListEvents,
                events_pb2.ListEventsRequest(
                    filter=filter, order_by=order_by, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.events,
        )

    def watch(
        self,
        *,
        since_revision: int = 0,
        filter: str = "",  # noqa: A002 - the API's name of it
        timeout_s: float | None = None,
    ) -> Generator[events_pb2.Event, None, None]:
        """Events after a revision and then new ones, without end; 0: only new ones. Broken streams are resumed
        without loss. Raises OutOfRange when the revision is no longer kept."""

        def since(revision: int) -> events_pb2.WatchEventsRequest:
            return events_pb2.WatchEventsRequest(since_revision=revision, filter=filter)

        changes = self._caller.watch(
            self._stub.WatchEvents, since, since_revision, relist=False, timeout_s=timeout_s
        )
        with closing(changes):
            for change in changes:
                if change.HasField("event"):
                    yield change.event

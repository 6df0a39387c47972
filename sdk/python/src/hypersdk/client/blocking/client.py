# Generated from aio/client.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""Client: one channel and one sub-client a service."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypersdk.client.blocking.caller import Caller
from hypersdk.client.calls import CallOptions
from hypersdk.client.channel import open_sync
from hypersdk.client.discovery import Endpoint, discover

if TYPE_CHECKING:
    from hypersdk.client.blocking.audit import Audit
    from hypersdk.client.blocking.connections import Connections
    from hypersdk.client.blocking.events import Events
    from hypersdk.client.blocking.formats import Formats
    from hypersdk.client.blocking.inventory import Inventory
    from hypersdk.client.blocking.job_groups import JobGroups
    from hypersdk.client.blocking.jobs import Jobs
    from hypersdk.client.blocking.operations import Operations
    from hypersdk.client.blocking.plugins import Plugins
    from hypersdk.client.blocking.policies import Policies
    from hypersdk.client.blocking.pricing import Pricing
    from hypersdk.client.blocking.queue import Queue
    from hypersdk.client.blocking.reports import Reports
    from hypersdk.client.blocking.schedules import Schedules
    from hypersdk.client.blocking.storage import Storage
    from hypersdk.client.blocking.subscriptions import Subscriptions
    from hypersdk.client.blocking.system import System


class Client:
    """A connection to one daemon. Cheap to create: nothing is sent before the first call; `close` ends it. A
    service's stubs are imported when its sub-client is first used (40 ms for all of them)."""

    def __init__(
        self, address: str = "", *, endpoint: Endpoint | None = None, options: CallOptions | None = None
    ) -> None:
        """`address` (`unix:/path`, `host:port`) or a whole `endpoint`; neither: the daemon of this user, as
        `discover` finds it. Raises InvalidArgument (ADDRESS_INVALID), Unauthenticated (CREDENTIALS_UNREADABLE)."""
        self.endpoint = endpoint or discover(address)
        self._channel = open_sync(self.endpoint)
        self._caller = Caller(self.endpoint.target, options or CallOptions())

    @cached_property
    def jobs(self) -> Jobs:
        from hypersdk.client.blocking.jobs import Jobs

        return Jobs(self._channel, self._caller)

    @cached_property
    def job_groups(self) -> JobGroups:
        from hypersdk.client.blocking.job_groups import JobGroups

        return JobGroups(self._channel, self._caller)

    @cached_property
    def queue(self) -> Queue:
        from hypersdk.client.blocking.queue import Queue

        return Queue(self._channel, self._caller)

    @cached_property
    def policies(self) -> Policies:
        from hypersdk.client.blocking.policies import Policies

        return Policies(self._channel, self._caller)

    @cached_property
    def schedules(self) -> Schedules:
        from hypersdk.client.blocking.schedules import Schedules

        return Schedules(self._channel, self._caller)

    @cached_property
    def connections(self) -> Connections:
        from hypersdk.client.blocking.connections import Connections

        return Connections(self._channel, self._caller)

    @cached_property
    def inventory(self) -> Inventory:
        from hypersdk.client.blocking.inventory import Inventory

        return Inventory(self._channel, self._caller)

    @cached_property
    def formats(self) -> Formats:
        from hypersdk.client.blocking.formats import Formats

        return Formats(self._channel, self._caller)

    @cached_property
    def pricing(self) -> Pricing:
        from hypersdk.client.blocking.pricing import Pricing

        return Pricing(self._channel, self._caller)

    @cached_property
    def storage(self) -> Storage:
        from hypersdk.client.blocking.storage import Storage

        return Storage(self._channel, self._caller)

    @cached_property
    def plugins(self) -> Plugins:
        from hypersdk.client.blocking.plugins import Plugins

        return Plugins(self._channel, self._caller)

    @cached_property
    def events(self) -> Events:
        from hypersdk.client.blocking.events import Events

        return Events(self._channel, self._caller)

    @cached_property
    def audit(self) -> Audit:
        from hypersdk.client.blocking.audit import Audit

        return Audit(self._channel, self._caller)

    @cached_property
    def reports(self) -> Reports:
        from hypersdk.client.blocking.reports import Reports

        return Reports(self._channel, self._caller)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        from hypersdk.client.blocking.subscriptions import Subscriptions

        return Subscriptions(self._channel, self._caller)

    @cached_property
    def system(self) -> System:
        from hypersdk.client.blocking.system import System

        return System(self._channel, self._caller)

    @cached_property
    def operations(self) -> Operations:
        from hypersdk.client.blocking.operations import Operations

        return Operations(self._channel, self._caller)

    def close(self) -> None:
        """End the channel; calls in flight fail with Cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""AsyncClient: one channel and one sub-client a service."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypersdk.client.aio.caller import AsyncCaller
from hypersdk.client.calls import CallOptions
from hypersdk.client.channel import open_async
from hypersdk.client.discovery import Endpoint, discover

if TYPE_CHECKING:
    from hypersdk.client.aio.audit import AsyncAudit
    from hypersdk.client.aio.connections import AsyncConnections
    from hypersdk.client.aio.events import AsyncEvents
    from hypersdk.client.aio.formats import AsyncFormats
    from hypersdk.client.aio.inventory import AsyncInventory
    from hypersdk.client.aio.job_groups import AsyncJobGroups
    from hypersdk.client.aio.jobs import AsyncJobs
    from hypersdk.client.aio.operations import AsyncOperations
    from hypersdk.client.aio.plugins import AsyncPlugins
    from hypersdk.client.aio.policies import AsyncPolicies
    from hypersdk.client.aio.pricing import AsyncPricing
    from hypersdk.client.aio.queue import AsyncQueue
    from hypersdk.client.aio.reports import AsyncReports
    from hypersdk.client.aio.schedules import AsyncSchedules
    from hypersdk.client.aio.storage import AsyncStorage
    from hypersdk.client.aio.subscriptions import AsyncSubscriptions
    from hypersdk.client.aio.system import AsyncSystem


class AsyncClient:
    """A connection to one daemon. Cheap to create: nothing is sent before the first call; `close` ends it. A
    service's stubs are imported when its sub-client is first used (40 ms for all of them)."""

    def __init__(
        self, address: str = "", *, endpoint: Endpoint | None = None, options: CallOptions | None = None
    ) -> None:
        """`address` (`unix:/path`, `host:port`) or a whole `endpoint`; neither: the daemon of this user, as
        `discover` finds it. Raises InvalidArgument (ADDRESS_INVALID), Unauthenticated (CREDENTIALS_UNREADABLE)."""
        self.endpoint = endpoint or discover(address)
        self._channel = open_async(self.endpoint)
        self._caller = AsyncCaller(self.endpoint.target, options or CallOptions())

    @cached_property
    def jobs(self) -> AsyncJobs:
        from hypersdk.client.aio.jobs import AsyncJobs

        return AsyncJobs(self._channel, self._caller)

    @cached_property
    def job_groups(self) -> AsyncJobGroups:
        from hypersdk.client.aio.job_groups import AsyncJobGroups

        return AsyncJobGroups(self._channel, self._caller)

    @cached_property
    def queue(self) -> AsyncQueue:
        from hypersdk.client.aio.queue import AsyncQueue

        return AsyncQueue(self._channel, self._caller)

    @cached_property
    def policies(self) -> AsyncPolicies:
        from hypersdk.client.aio.policies import AsyncPolicies

        return AsyncPolicies(self._channel, self._caller)

    @cached_property
    def schedules(self) -> AsyncSchedules:
        from hypersdk.client.aio.schedules import AsyncSchedules

        return AsyncSchedules(self._channel, self._caller)

    @cached_property
    def connections(self) -> AsyncConnections:
        from hypersdk.client.aio.connections import AsyncConnections

        return AsyncConnections(self._channel, self._caller)

    @cached_property
    def inventory(self) -> AsyncInventory:
        from hypersdk.client.aio.inventory import AsyncInventory

        return AsyncInventory(self._channel, self._caller)

    @cached_property
    def formats(self) -> AsyncFormats:
        from hypersdk.client.aio.formats import AsyncFormats

        return AsyncFormats(self._channel, self._caller)

    @cached_property
    def pricing(self) -> AsyncPricing:
        from hypersdk.client.aio.pricing import AsyncPricing

        return AsyncPricing(self._channel, self._caller)

    @cached_property
    def storage(self) -> AsyncStorage:
        from hypersdk.client.aio.storage import AsyncStorage

        return AsyncStorage(self._channel, self._caller)

    @cached_property
    def plugins(self) -> AsyncPlugins:
        from hypersdk.client.aio.plugins import AsyncPlugins

        return AsyncPlugins(self._channel, self._caller)

    @cached_property
    def events(self) -> AsyncEvents:
        from hypersdk.client.aio.events import AsyncEvents

        return AsyncEvents(self._channel, self._caller)

    @cached_property
    def audit(self) -> AsyncAudit:
        from hypersdk.client.aio.audit import AsyncAudit

        return AsyncAudit(self._channel, self._caller)

    @cached_property
    def reports(self) -> AsyncReports:
        from hypersdk.client.aio.reports import AsyncReports

        return AsyncReports(self._channel, self._caller)

    @cached_property
    def subscriptions(self) -> AsyncSubscriptions:
        from hypersdk.client.aio.subscriptions import AsyncSubscriptions

        return AsyncSubscriptions(self._channel, self._caller)

    @cached_property
    def system(self) -> AsyncSystem:
        from hypersdk.client.aio.system import AsyncSystem

        return AsyncSystem(self._channel, self._caller)

    @cached_property
    def operations(self) -> AsyncOperations:
        from hypersdk.client.aio.operations import AsyncOperations

        return AsyncOperations(self._channel, self._caller)

    async def close(self) -> None:
        """End the channel; calls in flight fail with Cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

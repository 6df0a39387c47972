"""SystemService."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hypersdk.api.system.v1 import system_pb2 as pb
from hypersdk.plugin.manifest import API_VERSION

from hypersdk_kernel import __version__
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.plugin import Plugin
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.values import duration, timestamp


class Jobs(Protocol):
    async def counts(self) -> dict[str, int]: ...


class Connections(Protocol):
    async def count(self) -> int: ...


class Registry(Protocol):
    def plugins(self) -> list[Plugin]: ...


class Dispatcher(Protocol):
    draining: bool

    @property
    def running(self) -> int: ...


class Store(Protocol):
    schema_revision: str
    last_revision: int


@dataclass(slots=True)
class KernelFacts:
    """What the composition root knows of the running kernel. `addresses` is filled when the listeners are bound."""

    state_dir: Path
    max_runners: int
    start_time: float
    start_monotonic: float
    store: str = "sqlite"
    addresses: Sequence[str] = field(default_factory=tuple)


class SystemService(Service):
    """What this kernel is and how it is doing."""

    descriptor = pb.DESCRIPTOR.services_by_name["SystemService"]

    def __init__(
        self,
        facts: KernelFacts,
        clock: Clock,
        store: Store,
        jobs: Jobs,
        connections: Connections,
        registry: Registry,
        dispatcher: Dispatcher,
    ) -> None:
        self._facts = facts
        self._clock = clock
        self._store = store
        self._jobs = jobs
        self._connections = connections
        self._registry = registry
        self._dispatcher = dispatcher
        self._counted: tuple[int, dict[str, int], int] = (-1, {}, 0)

    async def get_system_info(self, _request: pb.GetSystemInfoRequest, _call: Call) -> pb.SystemInfo:
        counts, connections = await self._counts()
        facts = self._facts
        return pb.SystemInfo(
            version=__version__,
            api_version=".".join(map(str, API_VERSION)),
            pid=os.getpid(),
            start_time=timestamp(facts.start_time),
            uptime=duration(self._clock.monotonic() - facts.start_monotonic),
            state_dir=str(facts.state_dir),
            store=facts.store,
            schema_revision=self._store.schema_revision,
            addresses=facts.addresses,
            job_counts=counts,
            plugin_count=len(self._registry.plugins()),
            connection_count=connections,
            resident_bytes=_resident_bytes(),
            max_runners=facts.max_runners,
            running_runners=self._dispatcher.running,
            last_revision=self._store.last_revision,
            draining=self._dispatcher.draining,
            python_version=platform.python_version(),
            hostname=socket.gethostname(),
        )

    async def _counts(self) -> tuple[dict[str, int], int]:
        """Jobs by state, and connections. Nothing of it changes without an event, so they are counted once a
        revision: a
        poller costs no scan of 100,000 jobs."""
        revision, counts, connections = self._counted
        if revision != self._store.last_revision:
            revision = self._store.last_revision
            counts, connections = await asyncio.gather(self._jobs.counts(), self._connections.count())
            self._counted = (revision, counts, connections)
        return counts, connections


def _resident_bytes() -> int:
    """Field 2 of /proc/self/statm (proc(5)), in pages; where there is no /proc, 0: unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0

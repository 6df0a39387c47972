"""grpc.health.v1: whether the daemon, and each of its services, takes calls. Open to everyone: it tells nothing
else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any, ClassVar

from grpc_health.v1 import health_pb2
from hypersdk.errors import NotFound

from hypersdk_kernel.services.call import Call, Service

_Status = health_pb2.HealthCheckResponse


class HealthService(Service):
    """SERVING from the start, NOT_SERVING for good after `drain`. "" is the daemon as a whole. `live` (plugins' own
    services) may be set until the first call."""

    descriptor: ClassVar[Any] = health_pb2.DESCRIPTOR.services_by_name["Health"]
    public = True

    def __init__(self, services: Collection[str]) -> None:
        self._ours = frozenset({"", *services})
        self.live: Callable[[], Iterable[str]] = tuple
        self._draining = asyncio.Event()

    def drain(self) -> None:
        self._draining.set()

    async def check(self, request: Any, _call: Call) -> Any:
        if request.service not in self._services:
            raise NotFound(f"there is no service {request.service[:120]!r} here", reason="SERVICE_UNKNOWN")
        return _Status(status=self._status(request.service))

    async def list(self, _request: Any, _call: Call) -> Any:
        statuses = {name: _Status(status=self._status(name)) for name in sorted(self._services)}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def watch(self, request: Any, _call: Call) -> AsyncIterator[Any]:
        """As the protocol has it, an unknown service is an answer here and no error."""
        yield _Status(status=self._status(request.service))
        await self._draining.wait()
        yield _Status(status=self._status(request.service))

    @property
    def _services(self) -> frozenset[str]:
        return self._ours.union(self.live())

    def _status(self, service: str) -> int:
        if service not in self._services:
            return int(_Status.SERVICE_UNKNOWN)
        return int(_Status.NOT_SERVING if self._draining.is_set() else _Status.SERVING)

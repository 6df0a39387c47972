"""The pool of hosts: one for each generation that is asked something, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk_kernel.hosting.host import Host
from hypersdk_kernel.hosting.host_process import HostPolicy
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, HostStatus


class HostPool:
    """All hosts of a kernel. Its life: calls start hosts as they need them; `close` stops them all.

    redact  (fields) → those that may be logged; Registry.redact
    """

    def __init__(
        self,
        clock: Clock,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        policy: HostPolicy | None = None,
    ) -> None:
        self._clock = clock
        self._redact = redact
        self._policy = policy or HostPolicy()
        self._hosts: dict[str, Host] = {}

    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Call a method of a component's host; see Host.call for what it raises. `service` is the proto service's
        full name, empty for the methods every host has (`Health`, `Plan`)."""
        host = self._host(component.generation)
        return await host.call(component, service, method, request, connection, timeout_s)

    def status(self, generation: Generation) -> HostStatus:
        host = self._hosts.get(generation.name)
        return host.status() if host is not None else HostStatus()

    async def ping(self, generation: Generation) -> float:
        """Seconds that a ping of its host takes; starts it if need be. Raises as `call`."""
        return await self._host(generation).ping()

    async def close(self, grace_s: float) -> None:
        """Stop all hosts: calls in flight get `grace_s` seconds in all, then the rest is killed."""
        hosts = [asyncio.ensure_future(host.close(grace_s)) for host in self._hosts.values()]
        if hosts:
            await asyncio.wait(hosts)

    def _host(self, generation: Generation) -> Host:
        host = self._hosts.get(generation.name)
        if host is None:
            host = self._hosts[generation.name] = Host(generation, self._policy, self._clock, self._redact)
        return host

"""Calls of executor components: an attempt's order placed, asked after, taken back, through the component's host.

The executor of a job is a component `executor/<id>`; its configuration is the connection of the same id.

Not here: what an answer means for the attempt (remoterunner).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Protocol

from hypersdk.errors import FailedPrecondition, Internal, from_exception

from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent

CALL_S = 30.0


class Placement(enum.Enum):
    """As in hypersdk.plugin.executor, which the kernel does not import."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OrderStatus:
    placement: Placement
    node: str = ""
    message: str = ""


class Registry(Protocol):
    def turn(self, name: str) -> ActiveComponent: ...


class Connections(Protocol):
    async def resolve(self, name: str) -> ResolvedConnection: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as this needs it."""

    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: dict[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]: ...


class Executors:
    """Every method raises what the registry, the connections and the host raise, and Internal for a wrong answer."""

    def __init__(self, registry: Registry, hosts: Hosts, connections: Connections) -> None:
        self._registry = registry
        self._hosts = hosts
        self._connections = connections

    async def submit(self, executor: str, reference: str, agent: str, placement: dict[str, str]) -> OrderStatus:
        request = {"reference": reference, "agent": agent, "placement": placement}
        return _status(executor, await self._call(executor, "Submit", request))

    async def status(self, executor: str, reference: str) -> OrderStatus:
        return _status(executor, await self._call(executor, "Status", {"reference": reference}))

    async def reattach(self, executor: str, reference: str) -> OrderStatus:
        return _status(executor, await self._call(executor, "Reattach", {"reference": reference}))

    async def cancel(self, executor: str, reference: str) -> None:
        await self._call(executor, "Cancel", {"reference": reference})

    async def _call(self, executor: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
        name = f"executor/{executor}"
        try:
            component = self._registry.turn(name)
            connection = await self._connections.resolve(f"connections/{executor}")
            if connection.component != name:
                raise FailedPrecondition(
                    f"{connection.name} is of {connection.component}; {name} is configured by the connection of its "
                    "own id, so give that one another",
                    reason="EXECUTOR_NOT_CONFIGURED",
                )
            return await self._hosts.call(component, "", method, request, connection, CALL_S)
        except Exception as exc:
            raise from_exception(exc, doing=f"{name} {method}") from exc


def _status(executor: str, answer: dict[str, Any]) -> OrderStatus:
    """The answer of a host in any language is checked here too."""
    try:
        placement = Placement(answer.get("placement"))
    except ValueError:
        raise Internal(
            f"executor/{executor} answered with a placement that is none", reason="PLUGIN_RESULT_INVALID"
        ) from None
    return OrderStatus(placement, str(answer.get("node") or "")[:200], str(answer.get("message") or "")[:500])

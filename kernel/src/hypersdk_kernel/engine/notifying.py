"""How a notification reaches its notifier: the connection resolved, its plugin's host called.

Not here: what is sent when and how often (events.courier).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hypersdk.errors import HyperError, Unavailable

from hypersdk_kernel.engine.connections import Connections
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.model.subscription import TEST_TYPE, Notice, Subscription
from hypersdk_kernel.store import codec

SEND_TIMEOUT_S = 60.0
"""For a notifier whose manifest names no shorter time for `Send`."""
MAX_PAYLOAD_BYTES = 256 << 10
"""A larger payload is left out, and its size told: a receiver that wants it asks for the resource."""


class Components(Protocol):
    def turn(self, name: str) -> ActiveComponent: ...


class Hosts(Protocol):
    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of a test. Times in seconds."""

    ok: bool
    message: str
    latency_s: float
    details: Mapping[str, str]


class NotifierCalls:
    """Sends through the hosts."""

    def __init__(self, connections: Connections, registry: Components, hosts: Hosts, clock: Clock) -> None:
        self._connections = connections
        self._registry = registry
        self._hosts = hosts
        self._clock = clock

    async def send(self, subscription: Subscription, notice: Notice, attempt: int) -> None:
        """Returns when the receiver has taken it. Raises what the notifier raised; Unavailable (NOTIFIER_NOT_READY)
        when it could not even be asked: that is our side's fault, and no reason to give up an event at once."""
        event = notice.event
        message = _message(notice.delivery_id, subscription, event.type, event.subject, attempt) | {
            "actor": event.actor, "time_s": event.time, "revision": event.revision, "payload": _payload(event.payload),
        }  # fmt: skip
        await self._call(subscription, message, SEND_TIMEOUT_S)

    async def test(self, subscription: Subscription, actor: str, timeout_s: float) -> TestResult:
        """Send one `notification.test` now, whatever the filter says. A refusal is an answer."""
        message = _message(f"test-{uuid.uuid4()}", subscription, TEST_TYPE, subscription.name, 1) | {
            "actor": actor, "time_s": self._clock.now(), "revision": 0, "payload": {},
        }  # fmt: skip
        began = time.monotonic()
        try:
            answer = await self._call(subscription, message, min(timeout_s, SEND_TIMEOUT_S))
        except HyperError as exc:
            return TestResult(False, exc.message, time.monotonic() - began, {"reason": exc.reason})
        details = answer.get("details")
        said = {str(k): str(v) for k, v in details.items()} if isinstance(details, dict) else {}
        return TestResult(True, "", time.monotonic() - began, said)

    async def _call(self, subscription: Subscription, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            resolved = await self._connections.resolve(subscription.connection)
            component = self._registry.turn(resolved.component)
        except HyperError as exc:
            raise Unavailable(
                f"{subscription.connection} cannot be used: {exc.message}",
                reason="NOTIFIER_NOT_READY",
                metadata={"connection": subscription.connection, "cause": exc.reason},
            ) from exc
        return await self._hosts.call(component, "", "Send", message, resolved, timeout_s)


def _message(delivery_id: str, subscription: Subscription, type_: str, subject: str, attempt: int) -> dict[str, Any]:
    return {
        "id": delivery_id, "subscription": subscription.name, "type": type_, "subject": subject, "attempt": attempt,
    }  # fmt: skip


def _payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    size = len(codec.dumps(payload).encode("utf-8", "surrogatepass"))
    return dict(payload) if size <= MAX_PAYLOAD_BYTES else {"omitted_bytes": size}

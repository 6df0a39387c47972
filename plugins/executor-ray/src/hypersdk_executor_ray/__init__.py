"""executor/ray: runners on the machines of a Ray cluster that is there already.

Not here: Ray itself, which a process of its own has (driver.py, started by drivers.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hypersdk.errors import HyperError
from hypersdk.plugin.executor import AGENT_ARGUMENTS, Executor, Node, Order, OrderStatus, Placement
from hypersdk.plugin.provider import Health

from hypersdk_executor_ray.drivers import Driver
from hypersdk_executor_ray.placement import options


class RayExecutor(Executor):
    """One cluster."""

    agent_arguments = AGENT_ARGUMENTS

    def __init__(self) -> None:
        self._driver: Driver | None = None

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:  # noqa: ARG002 - it has none
        self._driver = Driver(
            str(config.get("python") or sys.executable),
            {
                "address": config["address"],
                "namespace": config.get("namespace", "hypersdk"),
                "auth_token_path": config.get("auth_token_path", ""),
                "agent": [str(config.get("agent_python") or sys.executable), *self.agent_arguments],
            },
        )

    def health(self) -> Health:
        began = time.monotonic()
        try:
            alive = [node for node in self.nodes() if node.alive]
        except HyperError as exc:
            return Health(False, exc.message, time.monotonic() - began)
        return Health(True, "", time.monotonic() - began, {"machines": str(len(alive))})

    def submit(self, order: Order) -> OrderStatus:
        wanted = options(order.placement)
        return _status(self._ray.ask("submit", reference=order.reference, agent=order.agent, options=wanted))

    def status(self, reference: str) -> OrderStatus:
        return _status(self._ray.ask("status", reference=reference))

    def cancel(self, reference: str) -> None:
        self._ray.ask("cancel", reference=reference)

    def nodes(self) -> Sequence[Node]:
        return [Node(n["name"], n["alive"], n["total"], n["free"]) for n in self._ray.ask("nodes")]

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()

    @property
    def _ray(self) -> Driver:
        assert self._driver is not None, "configure comes first"
        return self._driver


def _status(told: Mapping[str, str]) -> OrderStatus:
    return OrderStatus(Placement(told["placement"]), told["node"], told["message"])

"""What an Executor answers in its host, for the kernel: `Submit`, `Status`, `Cancel`, `Reattach`, `Nodes`, `Health`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.executor import (
    MAX_NODES,
    MAX_ORDER_BYTES,
    Executor,
    Node,
    Order,
    OrderStatus,
    check_reference,
)

_MAX_PLACEMENT = 64
_MAX_TEXT = 500


def _health(executor: Executor, _call: Call) -> dict[str, Any]:
    return result.health(executor.health())


def _submit(executor: Executor, call: Call) -> dict[str, Any]:
    agent, placement = call.text("agent"), call.message.get("placement") or {}
    if not agent or len(agent.encode("utf-8", "surrogatepass")) > MAX_ORDER_BYTES or "\n" in agent:
        raise _wrong("agent", f"must be one line of at most {MAX_ORDER_BYTES} bytes")
    texts = isinstance(placement, dict) and all(isinstance(part, str) for item in placement.items() for part in item)
    if not texts or len(placement) > _MAX_PLACEMENT:
        raise _wrong("placement", f"must be an object of at most {_MAX_PLACEMENT} strings")
    return _status_to_wire(executor.submit(Order(_reference(call), agent, dict(placement))))


def _status(executor: Executor, call: Call) -> dict[str, Any]:
    return _status_to_wire(executor.status(_reference(call)))


def _reattach(executor: Executor, call: Call) -> dict[str, Any]:
    return _status_to_wire(executor.reattach(_reference(call)))


def _cancel(executor: Executor, call: Call) -> dict[str, Any]:
    executor.cancel(_reference(call))
    return {}


def _nodes(executor: Executor, _call: Call) -> dict[str, Any]:
    return {"nodes": [_node(node) for node in list(executor.nodes())[:MAX_NODES]]}


METHODS: Mapping[str, Callable[[Executor, Call], dict[str, Any]]] = {
    "Health": _health,
    "Submit": _submit,
    "Status": _status,
    "Cancel": _cancel,
    "Reattach": _reattach,
    "Nodes": _nodes,
}


def _reference(call: Call) -> str:
    return check_reference(call.text("reference"))


def _status_to_wire(found: object) -> dict[str, Any]:
    status = result.instance_of(found, OrderStatus, "status")
    return {
        "placement": status.placement.value,
        "node": result.text(status.node, "status.node")[:_MAX_TEXT],
        "message": result.text(status.message, "status.message")[:_MAX_TEXT],
    }


def _node(found: object) -> dict[str, Any]:
    node = result.instance_of(found, Node, "nodes")
    amounts = {"total": _amounts(node.total, "nodes.total"), "free": _amounts(node.free, "nodes.free")}
    return {"name": result.text(node.name, "nodes.name")[:_MAX_TEXT], "alive": node.alive is True, **amounts}


def _amounts(found: Mapping[str, float], field: str) -> dict[str, float]:
    for value in found.values():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise result.invalid(field, "has a value that is no finite number")
    return {str(key)[:_MAX_TEXT]: float(value) for key, value in found.items()}


def _wrong(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"request field {field} {rule}", violations=(FieldViolation(field, rule),))

"""What a Task answers in the control host: its plan. Running it is a runner's work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.task import Task


def _health(_task: Task, _call: Call) -> dict[str, Any]:
    """It was imported and made, which is all that a task needs."""
    return {"ok": True, "message": "", "latency_s": 0.0, "details": {}}


def _plan(task: Task, call: Call) -> dict[str, Any]:
    spec = call.message.get("spec", {})
    if not isinstance(spec, dict):
        violation = FieldViolation("spec", "must be an object")
        raise InvalidArgument("spec must be an object", violations=(violation,))
    return result.json_object(task.plan(spec), "plan")


METHODS: Mapping[str, Callable[[Task, Call], dict[str, Any]]] = {"Health": _health, "Plan": _plan}

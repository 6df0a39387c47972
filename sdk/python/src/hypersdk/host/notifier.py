"""What a Notifier answers in its host: `Send`, for the kernel's deliveries, and `Health`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.notifier import Notification, Notifier, Receipt

MAX_DETAILS = 16
MAX_DETAIL_CHARS = 512


def _health(notifier: Notifier, _call: Call) -> dict[str, Any]:
    return result.health(notifier.health())


def _send(notifier: Notifier, call: Call) -> dict[str, Any]:
    receipt = result.instance_of(notifier.send(_notification(call)), Receipt, "receipt")
    details = result.text_map(receipt.details, "receipt.details")
    return {"details": {k[:64]: v[:MAX_DETAIL_CHARS] for k, v in list(details.items())[:MAX_DETAILS]}}


METHODS: Mapping[str, Callable[[Notifier, Call], dict[str, Any]]] = {"Health": _health, "Send": _send}


def _notification(call: Call) -> Notification:
    message = call.message
    payload = message.get("payload") or {}
    if not isinstance(payload, dict):
        raise _wrong("payload", "must be an object")
    if not call.text("id") or not call.text("type"):
        raise _wrong("id" if not call.text("id") else "type", "must not be empty")
    return Notification(
        id=call.text("id"),
        type=call.text("type"),
        subject=call.text("subject"),
        actor=call.text("actor"),
        time_s=float(_number(message, "time_s")),
        revision=int(_number(message, "revision")),
        payload=payload,
        subscription=call.text("subscription"),
        attempt=int(_number(message, "attempt", 1)),
    )


def _number(message: Mapping[str, Any], name: str, default: int = 0) -> int | float:
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "must be a number")
    return value


def _wrong(name: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"request field {name} {text}", violations=(FieldViolation(name, text),))

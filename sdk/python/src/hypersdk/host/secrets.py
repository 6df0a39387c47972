"""What a SecretSource answers in its host: `Resolve`, for the kernel, and `Health`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.secrets import MAX_PATH_CHARACTERS, MAX_SECRET_BYTES, Secret, SecretSource


def _health(source: SecretSource, _call: Call) -> dict[str, Any]:
    return result.health(source.health())


def _resolve(source: SecretSource, call: Call) -> dict[str, Any]:
    ref = call.text("ref")
    if not 0 < len(ref) <= MAX_PATH_CHARACTERS:
        rule = f"must have 1 to {MAX_PATH_CHARACTERS} characters"
        raise InvalidArgument(f"ref {rule}", violations=(FieldViolation("ref", rule),))
    secret = result.instance_of(source.resolve(ref), Secret, "secret")
    value = result.instance_of(secret.value, str, "secret.value")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise result.invalid("secret.value", "is no UTF-8 text") from None  # the cause would show the value
    if size > MAX_SECRET_BYTES:
        raise result.invalid("secret.value", f"has more than {MAX_SECRET_BYTES} bytes")
    if not isinstance(secret.ttl_s, int | float) or not math.isfinite(secret.ttl_s) or secret.ttl_s < 0:
        raise result.invalid("secret.ttl_s", "is not a number of seconds")
    return {"value": value, "ttl_s": float(secret.ttl_s)}


METHODS: Mapping[str, Callable[[SecretSource, Call], dict[str, Any]]] = {"Health": _health, "Resolve": _resolve}

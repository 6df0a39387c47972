"""What a plugin returned, checked and turned to JSON: a wrong type is the plugin's defect and is named as
such, with its field, instead of surfacing as a broken message in the kernel.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from hypersdk.errors import Internal
from hypersdk.plugin.provider import Health, Page

T = TypeVar("T")

RESOURCE_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
INT32_MAX = (1 << 31) - 1
INT64_MAX = (1 << 63) - 1
_MAX_TIME_S = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second of a protobuf Timestamp."""


def invalid(field: str, text: str) -> Internal:
    return Internal(
        f"the plugin returned a {field} that {text}; this is a defect of the plugin",
        reason="PLUGIN_RESULT_INVALID",
        metadata={"field": field},
    )


def instance_of(value: object, cls: type[T], field: str) -> T:
    if not isinstance(value, cls):
        raise invalid(field, f"is a {type(value).__name__}, not a {cls.__name__}")
    return value


def page_of(value: object, cls: type[T], field: str) -> tuple[list[T], str]:
    """The items, each checked, and the next token of a Page."""
    page = instance_of(value, Page, field)
    items = [instance_of(item, cls, f"{field}.items") for item in page.items]
    return items, text(page.next_token, f"{field}.next_token")


def text(value: object, field: str) -> str:
    """A string that UTF-8 can say: a lone surrogate, as in an undecodable file name, becomes '?'."""
    return instance_of(value, str, field).encode("utf-8", "replace").decode("utf-8")


def integer(value: object, field: str, low: int, high: int = INT64_MAX) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(field, f"is {str(value)[:50]!r}, not an integer from {low} to {high}")
    return int(value)


def resource_id(value: object, field: str) -> str:
    if not isinstance(value, str) or not RESOURCE_ID.fullmatch(value):
        raise invalid(field, f"is {str(value)[:80]!r}, which does not match ^{RESOURCE_ID.pattern}$")
    return value


def text_map(value: object, field: str) -> dict[str, str]:
    mapping: Mapping[Any, Any] = instance_of(value, Mapping, field)  # type: ignore[type-abstract]
    return {text(k, f"{field} key"): text(v, f"{field}[{k!r}]") for k, v in mapping.items()}


def json_object(value: object, field: str) -> dict[str, Any]:
    """A mapping that JSON can say, as JSON would give it back."""
    mapping: Mapping[Any, Any] = instance_of(value, Mapping, field)  # type: ignore[type-abstract]
    try:
        back = json.loads(json.dumps(dict(mapping), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as exc:
        raise invalid(field, f"is not JSON: {exc}") from exc
    return instance_of(back, dict, field)


def timestamp(seconds: object, field: str) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds) or not 0 <= seconds < _MAX_TIME_S:
        raise invalid(field, f"is {str(seconds)[:50]!r}, not seconds since 1970")
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{micros:06d}Z"


def health(value: object) -> dict[str, Any]:
    found = instance_of(value, Health, "health")
    if not isinstance(found.latency_s, int | float) or not math.isfinite(found.latency_s):
        raise invalid("health.latency_s", "is not a number of seconds")
    return {
        "ok": bool(found.ok),
        "message": text(found.message, "health.message"),
        "latency_s": float(found.latency_s),
        "details": text_map(found.details, "health.details"),
    }

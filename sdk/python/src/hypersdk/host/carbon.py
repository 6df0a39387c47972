"""What a CarbonSource answers in its host, for the kernel: `Delay`, `Forecast`, `Health`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.carbon import MAX_POINTS, MAX_REASON, CarbonSource, DelayRequest, Intensity, StartAdvice

_LONGEST_S = 40 * 86400.0


def _health(source: CarbonSource, _call: Call) -> dict[str, Any]:
    regions = [result.text(region, "region") for region in source.regions()]
    return {"ok": True, "message": "", "latency_s": 0.0, "details": {"regions": ",".join(regions)[:500]}}


def _forecast(source: CarbonSource, call: Call) -> dict[str, Any]:
    start_s, end_s = _number(call, "start_s"), _number(call, "end_s")
    if not 0 < end_s - start_s <= _LONGEST_S:
        raise _wrong("end_s", "must be later than start_s, by 40 days at most")
    points = list(source.forecast(call.text("region"), start_s, end_s))
    if len(points) > MAX_POINTS:
        raise result.invalid("forecast", f"has more than {MAX_POINTS} points")
    return {"unit": result.text(source.unit, "unit"), "points": [_point(point) for point in points]}


def _delay(source: CarbonSource, call: Call) -> dict[str, Any]:
    labels = call.message.get("labels") or {}
    request = DelayRequest(
        job=call.text("job"),
        task=call.text("task"),
        region=call.text("region"),
        earliest_s=_number(call, "earliest_s"),
        latest_s=_number(call, "latest_s"),
        expected_s=_number(call, "expected_s"),
        labels={str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
    )
    if not request.earliest_s <= request.latest_s <= request.earliest_s + _LONGEST_S:
        raise _wrong("latest_s", "must not be before earliest_s, nor more than 40 days later")
    if not 0 <= request.expected_s <= _LONGEST_S:
        raise _wrong("expected_s", "must be 0 to 40 days")
    advice = result.instance_of(source.delay(request), StartAdvice, "advice")
    start_s = _finite(advice.start_s, "advice.start_s")
    return {"start_s": start_s, "reason": result.text(advice.reason, "advice.reason")[:MAX_REASON]}


METHODS: Mapping[str, Callable[[CarbonSource, Call], dict[str, Any]]] = {
    "Health": _health,
    "Forecast": _forecast,
    "Delay": _delay,
}


def _point(point: object) -> dict[str, Any]:
    found = result.instance_of(point, Intensity, "forecast")
    return {
        "start_s": _finite(found.start_s, "forecast.start_s"),
        "end_s": _finite(found.end_s, "forecast.end_s"),
        "value": _finite(found.value, "forecast.value"),
    }


def _finite(value: object, field: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise result.invalid(field, "is no finite number")
    return float(value)


def _number(call: Call, field: str) -> float:
    value = call.message.get(field)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(field, "must be a finite number")
    return float(value)


def _wrong(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {rule}", violations=(FieldViolation(field, rule),))

"""A plugin with a gRPC service of its own. No gRPC and no protobuf here: requests and responses are JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from hypersdk.errors import InvalidArgument
from hypersdk.plugin import Service, rpc

PERIODS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda time: (time.year, time.month, time.day),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
}


class Planner(Service):
    """Answers calls in the plugin's host; it has no process of its own and needs no connection."""

    @rpc("example.retention.v1.RetentionService.PlanRetention")
    def plan_retention(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The kernel has checked the request by the rules in the proto before it comes here."""
        times = sorted(_time(text) for text in request["times"])
        reasons: dict[datetime, list[str]] = {time: [] for time in times}
        for name, period in PERIODS.items():
            newest: dict[tuple[int, ...], datetime] = {period(time): time for time in times}  # the last one wins
            count = int(request.get(f"keep_{name}", 0))
            for key in sorted(newest, reverse=True)[:count]:
                reasons[newest[key]].append(name)
        return {"decisions": [_decision(time, reasons[time]) for time in times]}


def _time(text: str) -> datetime:
    """A timestamp in proto3 JSON is RFC 3339 with up to nine decimals; Python takes six."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    time = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    if time.year < 1970:
        raise InvalidArgument(f"{text} is before the first backup that anybody took")
    return time.replace(microsecond=int(fraction.ljust(6, "0")[:6] or 0))


def _decision(time: datetime, reasons: list[str]) -> dict[str, Any]:
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "keep": bool(reasons), "reasons": reasons}

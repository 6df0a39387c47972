"""Windows and limits as documents: their JSON, which is what the store has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hypersdk_kernel.engine.documents import Kind
from hypersdk_kernel.model.limit import Limit, Scope
from hypersdk_kernel.model.window import HolidayRule, OnClose, Span, Window


def _window_to_json(window: Window) -> dict[str, Any]:
    return dataclasses.asdict(window)


def _window_from_json(data: Mapping[str, Any]) -> Window:
    values = _known(Window, data)
    values["spans"] = tuple(Span(tuple(s["days"]), s["start_s"], s["end_s"]) for s in data.get("spans") or ())
    values["blackouts"] = tuple((first, last) for first, last in data.get("blackouts") or ())
    values["holiday_rule"] = HolidayRule(data.get("holiday_rule", HolidayRule.CLOSED))
    values["on_close"] = OnClose(data.get("on_close", OnClose.FINISH))
    return Window(**values)


def _limit_from_json(data: Mapping[str, Any]) -> Limit:
    return Limit(**(_known(Limit, data) | {"scope": Scope(data["scope"])}))


def _known(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in dataclasses.fields(cls)}
    return {key: value for key, value in data.items() if key in names}


def _stamp(value: Any, create_time: float, update_time: float, revision: int) -> Any:
    return dataclasses.replace(value, create_time=create_time, update_time=update_time, revision=revision)


WINDOWS: Kind[Window] = Kind(
    "window", "windows", missing_reason="WINDOW_NOT_FOUND", twin_reason="WINDOW_EXISTS",
    encode=_window_to_json, decode=_window_from_json, stamp=_stamp,
)  # fmt: skip
LIMITS: Kind[Limit] = Kind(
    "limit", "limits", missing_reason="LIMIT_NOT_FOUND", twin_reason="LIMIT_EXISTS",
    encode=dataclasses.asdict, decode=_limit_from_json, stamp=_stamp,
)  # fmt: skip

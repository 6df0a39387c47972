"""Windows as messages."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from hypersdk.api.policies.v1 import policies_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.model import holiday
from hypersdk_kernel.model.window import DAY_S, HolidayRule, OnClose, Phase, Span, Window
from hypersdk_kernel.services.values import timestamp

_RULES = {rule: pb.HolidayRule.Value(f"HOLIDAY_RULE_{rule.name}") for rule in HolidayRule}
_RULE_OF = {value: rule for rule, value in _RULES.items()}
_CLOSINGS = {action: pb.WindowCloseAction.Value(f"WINDOW_CLOSE_ACTION_{action.name}") for action in OnClose}
_CLOSING_OF = {value: action for action, value in _CLOSINGS.items()}


def window_message(window: Window, phase: Phase | None) -> pb.Window:
    """`phase`: how it stands now."""
    return pb.Window(
        name=window.name,
        display_name=window.display_name,
        time_zone=window.time_zone,
        spans=[
            pb.WindowSpan(
                days=[day + 1 for day in span.days],  # type: ignore[misc]  # Weekday's values: Monday is 1
                start_time_of_day=_clock(span.start_s),
                end_time_of_day=_clock(span.end_s),
            )
            for span in window.spans
        ],
        blackouts=[pb.DateRange(first_date=first, last_date=last) for first, last in window.blackouts],
        holiday_country=window.country,
        holiday_subdivision=window.subdivision,
        holiday_rule=_RULES[window.holiday_rule],
        on_close=_CLOSINGS[window.on_close],
        bandwidth_limit_bytes=window.bandwidth_bytes,
        create_time=timestamp(window.create_time) if window.create_time else None,
        update_time=timestamp(window.update_time) if window.update_time else None,
        etag=window.etag if window.revision else "",
        open=phase is not None and phase.open,
        next_change_time=timestamp(phase.until) if phase is not None and phase.until is not None else None,
    )


def window_of(message: pb.Window, window_id: str) -> Window:
    """Raises InvalidArgument (VALUE_INVALID) for a zone, a country or a date that there is not."""
    zone = message.time_zone or "UTC"
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # unknown (ZoneInfoNotFoundError), or a name that is no name
        raise _invalid("time_zone", f"there is no time zone {zone[:64]!r}") from None
    if not message.spans:
        raise _invalid("spans", "is empty; name a time at which it is open")
    country, subdivision = message.holiday_country, message.holiday_subdivision
    if country and not holiday.known(country, subdivision):
        raise _invalid("holiday_country", f"no calendar of holidays is known for {country} {subdivision}".rstrip())
    if subdivision and not country:
        raise _invalid("holiday_subdivision", "needs a holiday_country")
    return Window(
        id=window_id,
        time_zone=zone,
        spans=tuple(_span(n, span) for n, span in enumerate(message.spans)),
        blackouts=tuple(_blackout(n, dates) for n, dates in enumerate(message.blackouts)),
        country=country,
        subdivision=subdivision,
        holiday_rule=_RULE_OF.get(message.holiday_rule, HolidayRule.CLOSED),
        on_close=_CLOSING_OF.get(message.on_close, OnClose.FINISH),
        bandwidth_bytes=message.bandwidth_limit_bytes,
        display_name=message.display_name,
    )


def _span(n: int, span: pb.WindowSpan) -> Span:
    if any(day == 0 for day in span.days):
        raise _invalid(f"spans[{n}].days", "must be days of the week")
    start, end = _seconds(span.start_time_of_day), _seconds(span.end_time_of_day)
    if start == end:
        raise _invalid(f"spans[{n}]", "is empty; the whole day is 00:00 to 24:00")
    return Span(tuple(sorted({int(day) - 1 for day in span.days})), start, end)


def _blackout(n: int, dates: pb.DateRange) -> tuple[str, str]:
    first, last = dates.first_date, dates.last_date or dates.first_date
    for field, text in (("first_date", first), ("last_date", last)):
        try:
            dt.date.fromisoformat(text)
        except ValueError:
            raise _invalid(f"blackouts[{n}].{field}", f"{text!r} is no date") from None
    if last < first:
        raise _invalid(f"blackouts[{n}]", "ends before it begins")
    return first, last


def _seconds(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return parts[0] * 3600 + parts[1] * 60 + (parts[2] if len(parts) > 2 else 0)


def _clock(second: int) -> str:
    if second == DAY_S:
        return "24:00"
    text = f"{second // 3600:02}:{second // 60 % 60:02}"
    return text if second % 60 == 0 else f"{text}:{second % 60:02}"


def _invalid(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"window.{field}: {rule}", reason="VALUE_INVALID", violations=(FieldViolation(f"window.{field}", rule),)
    )

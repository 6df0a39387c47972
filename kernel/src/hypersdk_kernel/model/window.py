"""Windows: the times at which jobs may run. Pure; holidays are asked of a function that is passed in.

A window is open during its spans of the week, in its time zone, less its blackout dates and, as its rule says, its
holidays. A span may go over midnight; it belongs to the day on which it starts. A closed day closes from its midnight
to the next, also what an earlier day's span would have kept open. Local times that a clock change skips are taken an
hour later, of those that it repeats the first counts.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

DAY_S = 86_400
HORIZON_DAYS = 400
"""How far ahead the next opening is looked for: any weekly or yearly rule has shown itself by then."""

Holidays = Callable[[str, str, dt.date], str]
"""(country, subdivision, date) → the holiday's name, or ""."""


class HolidayRule(enum.StrEnum):
    """What the window does on a holiday."""

    IGNORE = "ignore"
    CLOSED = "closed"
    OPEN = "open"


class OnClose(enum.StrEnum):
    """What becomes of a job that runs when its window closes."""

    FINISH = "finish"  # it runs to its end
    PAUSE = "pause"  # its runner stands still until the window opens again
    STOP = "stop"  # its runner ends; the next opening goes on from the checkpoint
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Span:
    """On `days` (0 Monday … 6 Sunday) from `start_s` for as long as to `end_s`, seconds of the day; an end that is not
    after the start is the next day's. 0 to 86400 is the whole day."""

    days: tuple[int, ...]
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Window:
    """See the module's docstring.

    blackouts        first and last date (both included), ISO, local to the zone
    holidays         country (ISO 3166-1 alpha-2), and `subdivision` (ISO 3166-2 without the country); empty: none
    bandwidth_bytes  a second, shared by the jobs that run in it; 0: no such limit
    """

    id: str
    time_zone: str = "UTC"
    spans: tuple[Span, ...] = ()
    blackouts: tuple[tuple[str, str], ...] = ()
    country: str = ""
    subdivision: str = ""
    holiday_rule: HolidayRule = HolidayRule.CLOSED
    on_close: OnClose = OnClose.FINISH
    bandwidth_bytes: int = 0
    display_name: str = ""
    create_time: float = 0.0
    update_time: float = 0.0
    revision: int = 0

    @property
    def name(self) -> str:
        return f"windows/{self.id}"

    @property
    def etag(self) -> str:
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True)
class Phase:
    """Whether a window is open at a moment, until when that stays so (None: beyond the horizon), and why it is closed
    where a whole day is."""

    open: bool
    until: float | None
    why: str = ""


def phase(window: Window, now: float, holidays: Holidays) -> Phase:
    """How `window` stands at `now`, seconds since the epoch."""
    end: float | None = None
    for start, stop in _openings(window, now, holidays):
        if end is not None:
            if start > end:
                return Phase(True, end)
            end = max(end, stop)
        elif start <= now < stop:
            end = stop
        elif start > now:
            return Phase(False, start, _closed_day(window, _local(window, now).date(), holidays))
    if end is None:
        return Phase(False, None, _closed_day(window, _local(window, now).date(), holidays))
    last = _midnight(window, _local(window, now).date() + dt.timedelta(days=HORIZON_DAYS))
    return Phase(True, end if end < last else None)


def _openings(window: Window, now: float, holidays: Holidays) -> Iterator[tuple[float, float]]:
    """Intervals that end after `now`, in order of their starts; they may touch and overlap."""
    today = _local(window, now).date()
    closed: dict[dt.date, bool] = {}

    def is_closed(day: dt.date) -> bool:
        if day not in closed:
            closed[day] = bool(_closed_day(window, day, holidays))
        return closed[day]

    for offset in range(-1, HORIZON_DAYS + 1):
        day = today + dt.timedelta(days=offset)
        if is_closed(day):
            continue
        if window.holiday_rule is HolidayRule.OPEN and _holiday(window, day, holidays):
            found = [(_midnight(window, day), _midnight(window, day + dt.timedelta(days=1)))]
        else:
            found = [_interval(window, span, day) for span in window.spans if day.weekday() in span.days]
        for start, stop in sorted(found):
            if is_closed(day + dt.timedelta(days=1)):
                stop = min(stop, _midnight(window, day + dt.timedelta(days=1)))
            if stop > now and stop > start:
                yield start, stop


def _interval(window: Window, span: Span, day: dt.date) -> tuple[float, float]:
    overnight = span.end_s <= span.start_s
    return _moment(window, day, span.start_s), _moment(window, day, span.end_s + (DAY_S if overnight else 0))


def _moment(window: Window, day: dt.date, second: int) -> float:
    day += dt.timedelta(days=second // DAY_S)
    minutes, seconds = divmod(second % DAY_S, 60)
    local = dt.datetime(day.year, day.month, day.day, minutes // 60, minutes % 60, seconds, tzinfo=_zone(window))
    return local.timestamp()


def _midnight(window: Window, day: dt.date) -> float:
    return _moment(window, day, 0)


def _closed_day(window: Window, day: dt.date, holidays: Holidays) -> str:
    """Why the whole day is closed, or ""."""
    text = day.isoformat()
    for first, last in window.blackouts:
        if first <= text <= last:
            return f"{text} is in the blackout from {first} to {last}"
    if window.holiday_rule is HolidayRule.CLOSED:
        name = _holiday(window, day, holidays)
        if name:
            return f"{text} is a holiday: {name}"
    return ""


def _holiday(window: Window, day: dt.date, holidays: Holidays) -> str:
    return holidays(window.country, window.subdivision, day) if window.country else ""


def _local(window: Window, now: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(now, _zone(window))


def _zone(window: Window) -> ZoneInfo:
    return ZoneInfo(window.time_zone)

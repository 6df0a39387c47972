"""When: a cron expression, `@every`, or one moment, within bounds. Pure; times are seconds since the epoch (UTC).

Cron expressions are parsed and stepped by cronsim, on wall clock time without a zone; what a zone's jumps mean is
decided here, by two rules:

    hour field matches every hour    the job runs as time passes: in the doubled hour twice, in the skipped one never
    it does not                      the job is for a time of the day: a time that occurs twice counts the first time,
                                     one that is skipped counts once, at the moment of the jump

so that a nightly job runs once each night, and an hourly one once each hour.
"""

from __future__ import annotations

import copy
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError
from hypersdk.errors import FieldViolation, InvalidArgument

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MAX_EVERY_S = 366 * 86400
MAX_TEXT = 256
LAST = 253_370_764_800.0
"""The year 9999 begins: whatever is later has no date in every zone."""
_EVERY = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?")
_PROBE_S = 3600
_FOLD_S = 25 * 3600
"""No zone ever set its clocks back by more than a day."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """Exactly one of `cron` and `run_at`. Occurrences lie in [start, end). `anchor`: where `@every` counts from, when
    there is no start."""

    cron: str = ""
    run_at: float | None = None
    time_zone: str = "UTC"
    start: float | None = None
    end: float | None = None
    anchor: float = 0.0

    def next_after(self, after: float) -> float | None:
        """The first occurrence later than `after`; None when there is none in 50 years."""
        if self.start is not None and after < self.start:
            after = math.nextafter(self.start, -math.inf)
        if self.run_at is not None:
            found = self.run_at if self.run_at > after else None
        elif self.cron.startswith("@every"):
            found = _every(parse_every(self.cron), self.anchor if self.start is None else self.start, after)
        else:
            found = expression(self.cron).next_after(after, zone(self.time_zone))
        return found if found is not None and found < min(self.end or LAST, LAST) else None

    def iterate(self, after: float) -> Iterator[float]:
        """Every occurrence later than `after`, in order."""
        found = self.next_after(after)
        while found is not None:
            yield found
            found = self.next_after(found)

    def latest(self, after: float, until: float, limit: int) -> tuple[list[float], bool]:
        """The last `limit` occurrences in (after, until], in order, and whether there are more. Its cost does not
        grow with the length of that time: it looks at twice as much of the past until it has seen enough."""
        first = self.next_after(after)
        if first is None or first > until:
            return [], False
        second = self.next_after(first)
        if second is None or second > until:  # as it nearly always is
            return [first], False
        span = 2.0 * (limit + 1)
        while True:
            begin = max(after, until - span)
            found: list[float] = []
            for moment in self.iterate(begin):
                if moment > until:
                    break
                found.append(moment)
            if begin <= after or len(found) > limit:
                return found[-limit:], len(found) > limit
            span *= 2


def check(timing: Timing, field: str = "schedule") -> None:
    """Raises InvalidArgument (SCHEDULE_INVALID) naming the field that cannot be used."""
    if (timing.run_at is None) == (not timing.cron):
        raise invalid(f"{field}.cron", "give either a cron expression or run_at")
    if len(timing.cron) > MAX_TEXT:
        raise invalid(f"{field}.cron", f"has more than {MAX_TEXT} characters")
    _check_zone(timing.time_zone, f"{field}.time_zone")
    if timing.cron.startswith("@every"):
        parse_every(timing.cron, f"{field}.cron")
    elif timing.cron:
        expression(timing.cron, f"{field}.cron")
    if timing.start is not None and timing.end is not None and timing.end <= timing.start:
        raise invalid(f"{field}.end_time", "must be later than start_time")


def parse_every(text: str, field: str = "schedule.cron") -> int:
    """Seconds of `@every 1h30m`. Raises InvalidArgument."""
    match = _EVERY.fullmatch(text.removeprefix("@every").strip())
    if match is None or not any(match.groups()):
        raise invalid(field, "@every takes a length of time such as 90s, 1h30m, 1d")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    length = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not 1 <= length <= MAX_EVERY_S:
        raise invalid(field, "@every takes 1s to 366d")
    return length


@lru_cache(maxsize=64)
def zone(name: str) -> zoneinfo.ZoneInfo:
    """An IANA zone. Raises InvalidArgument."""
    _check_zone(name, "time_zone")
    return zoneinfo.ZoneInfo(name)


@lru_cache(maxsize=1024)
def expression(text: str, field: str = "schedule.cron") -> Expression:
    """The parsed expression. Raises InvalidArgument."""
    return Expression(text, field)


class Expression:
    """Five fields, six with seconds first, or an alias."""

    def __init__(self, text: str, field: str) -> None:
        if text.startswith("@") and text not in ALIASES:
            raise invalid(field, f"{text[:40]!r} is none of {', '.join(ALIASES)}, @every 1h30m")
        try:
            self._sim = CronSim(ALIASES.get(text, text), datetime(2000, 1, 1))  # noqa: DTZ001 - wall clock time
        except (CronSimError, ValueError, TypeError, AssertionError, RecursionError) as exc:
            raise invalid(field, f"{text[:80]!r} is no cron expression: {exc or type(exc).__name__}") from exc
        self.hourly = self._sim.hours == set(range(24))

    def walls(self, after: datetime) -> Iterator[datetime]:
        """Wall clock times that match, later than `after`, without a zone."""
        sim = copy.copy(self._sim)
        sim.dt = after.replace(microsecond=0)
        while True:
            try:
                wall = next(sim)
            except (StopIteration, OverflowError, ValueError):  # 50 years without one, or the year 9999
                return
            yield wall

    def next_after(self, after: float, tz: zoneinfo.ZoneInfo) -> float | None:
        """The first moment later than `after`."""
        try:
            return self._as_time_passes(after, tz) if self.hourly else self._by_the_day(after, tz)
        except OverflowError:
            return None

    def _by_the_day(self, after: float, tz: zoneinfo.ZoneInfo) -> float | None:
        for wall in self.walls(_wall(math.floor(after), tz)):
            moment = _moment(wall, tz, 0)
            if _wall(moment, tz) != wall:
                moment = _change(_moment(wall, tz, 1), moment, tz)
            if moment > after:
                return moment
        return None

    def _as_time_passes(self, after: float, tz: zoneinfo.ZoneInfo) -> float | None:
        low = math.floor(after)
        while True:
            wall = next(self.walls(_wall(low, tz)), None)
            horizon = low + _FOLD_S
            near = horizon if wall is None else min(_at(wall) - _offset(low, tz), horizon)
            jump = _first_change(low, near, tz)
            if jump is None:
                if wall is None:
                    return None
                if near < horizon:
                    return near
                moment = _moment(wall, tz, 0)
                if _wall(moment, tz) == wall:
                    return moment
                jump = _change(_moment(wall, tz, 1), moment, tz)
            if self._matches(_wall(jump, tz)):
                return jump
            low = jump

    def _matches(self, wall: datetime) -> bool:
        return next(self.walls(wall - timedelta(seconds=1)), None) == wall


def invalid(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{field}: {rule}", reason="SCHEDULE_INVALID", violations=(FieldViolation(field, rule),))


def _check_zone(name: str, field: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise invalid(field, f"{name[:60]!r} is no IANA time zone, such as Europe/Berlin") from exc


def _every(period: int, anchor: float, after: float) -> float:
    count = max(math.floor((after - anchor) / period) + 1, 0)
    found = anchor + count * period
    return found if found > after else found + period


def _wall(moment: float, tz: zoneinfo.ZoneInfo) -> datetime:
    return (_EPOCH + timedelta(seconds=moment)).astimezone(tz).replace(tzinfo=None)


def _at(wall: datetime) -> int:
    return round((wall.replace(tzinfo=UTC) - _EPOCH).total_seconds())


def _offset(moment: float, tz: zoneinfo.ZoneInfo) -> int:
    offset = (_EPOCH + timedelta(seconds=moment)).astimezone(tz).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _moment(wall: datetime, tz: zoneinfo.ZoneInfo, fold: int) -> int:
    offset = wall.replace(tzinfo=tz, fold=fold).utcoffset()
    return _at(wall) - (0 if offset is None else round(offset.total_seconds()))


def _first_change(low: int, high: int, tz: zoneinfo.ZoneInfo) -> int | None:
    """The first moment in (low, high] with another offset than `low`'s."""
    offset = _offset(low, tz)
    while low < high:
        probe = min(low + _PROBE_S, high)
        if _offset(probe, tz) != offset:
            return _change(low, probe, tz)
        low = probe
    return None


def _change(low: int, high: int, tz: zoneinfo.ZoneInfo) -> int:
    """The moment in (low, high] from which the offset is that of `high`."""
    offset = _offset(high, tz)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, tz) == offset:
            high = middle
        else:
            low = middle
    return high

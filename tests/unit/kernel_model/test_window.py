"""Windows against a reference that looks at every minute by itself."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypersdk_kernel.model.holiday import holiday, known
from hypersdk_kernel.model.window import DAY_S, HolidayRule, Span, Window, phase
from hypothesis import given, settings
from hypothesis import strategies as st

NONE = lambda country, subdivision, day: ""  # noqa: E731
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]
WORK = tuple(range(5))


def utc(text):
    return dt.datetime.fromisoformat(text + "+00:00").timestamp()


def local(zone, text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def is_open(window, when, holidays):
    """Naively: is there a span, of today or over midnight of yesterday, around the local wall time, on days that are
    not closed? Only right where the clock does not change."""
    here = dt.datetime.fromtimestamp(when, ZoneInfo(window.time_zone))
    second = here.hour * 3600 + here.minute * 60 + here.second

    def shut(day):
        if any(first <= day.isoformat() <= last for first, last in window.blackouts):
            return True
        return window.holiday_rule is HolidayRule.CLOSED and bool(
            window.country and holidays(window.country, window.subdivision, day)
        )

    today, yesterday = here.date(), here.date() - dt.timedelta(days=1)
    if shut(today):
        return False
    if window.holiday_rule is HolidayRule.OPEN and holidays(window.country, "", today):
        return True
    for span in window.spans:
        overnight = span.end_s <= span.start_s
        end = span.end_s + DAY_S if overnight else span.end_s
        if today.weekday() in span.days and span.start_s <= second < end:
            return True
        opened = yesterday.weekday() in span.days and not shut(yesterday)
        if window.holiday_rule is HolidayRule.OPEN and holidays(window.country, "", yesterday):
            opened = False  # a holiday that is open all day has no spans
        if overnight and opened and second < span.end_s:
            return True
    return False


spans = st.builds(
    Span,
    st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True).map(lambda d: tuple(sorted(d))),
    st.integers(0, 1439).map(lambda m: m * 60),
    st.integers(0, 1440).map(lambda m: m * 60),
).filter(lambda s: s.start_s != s.end_s)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["UTC", "Asia/Kathmandu", "Asia/Tokyo"]),  # zones without clock changes
    st.lists(spans, min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=3),
    st.sampled_from(list(HolidayRule)),
    st.integers(0, 14 * 1440),
)
def test_a_phase_is_what_looking_at_every_minute_says(zone, weekly, dark, rule, minute):
    base = dt.date(2026, 6, 1)
    blackouts = tuple(
        ((base + dt.timedelta(days=a)).isoformat(), (base + dt.timedelta(days=a + n)).isoformat()) for a, n in dark
    )
    holidays = lambda country, subdivision, day: "Feast" if day.day % 7 == 0 else ""  # noqa: E731
    window = Window("w", zone, tuple(weekly), blackouts, "XX", holiday_rule=rule)
    now = utc("2026-06-01T00:00:00") + minute * 60
    found = phase(window, now, holidays)
    assert found.open is is_open(window, now, holidays)
    end = min(found.until or now + 3 * DAY_S, now + 3 * DAY_S)
    for step in range(int(now), int(end), 1800):
        assert is_open(window, step, holidays) is found.open
    if found.until is not None:
        assert found.until > now
        assert is_open(window, found.until - 1, holidays) is found.open
        assert is_open(window, found.until, holidays) is not found.open


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ZONES), st.lists(spans, min_size=1, max_size=3), st.integers(0, 400 * 24))
def test_phases_follow_each_other_without_gaps_over_clock_changes(zone, weekly, hour):
    window = Window("w", zone, tuple(weekly))
    now = utc("2026-01-01T00:00:00") + hour * 3600
    found = phase(window, now, NONE)
    for _ in range(6):
        if found.until is None:
            break
        after = phase(window, found.until, NONE)
        before = phase(window, found.until - 1, NONE)
        assert after.open is not found.open
        assert (before.open, before.until) == (found.open, found.until)
        found = after


def test_business_hours_in_a_zone_follow_its_clock():
    window = Window("w", "Europe/Berlin", (Span(WORK, 9 * 3600, 17 * 3600),))
    assert phase(window, utc("2026-01-05T08:00:00"), NONE).open  # winter: UTC+1
    assert not phase(window, utc("2026-01-05T07:59:59"), NONE).open
    assert phase(window, utc("2026-07-06T07:00:00"), NONE).open  # summer: UTC+2
    assert phase(window, utc("2026-01-09T16:30:00"), NONE).until == utc("2026-01-12T08:00:00")  # Friday evening


def test_a_night_span_is_an_hour_shorter_and_longer_when_clocks_change():
    window = Window("w", "Europe/Berlin", (Span(tuple(range(7)), 22 * 3600, 6 * 3600),))
    spring = phase(window, local("Europe/Berlin", "2026-03-28T23:00:00"), NONE)
    autumn = phase(window, local("Europe/Berlin", "2026-10-24T23:00:00"), NONE)
    assert spring.until == local("Europe/Berlin", "2026-03-29T06:00:00") == utc("2026-03-29T04:00:00")
    assert autumn.until == local("Europe/Berlin", "2026-10-25T06:00:00") == utc("2026-10-25T05:00:00")


def test_a_time_that_the_clock_skips_is_taken_an_hour_later_and_of_a_doubled_one_the_first():
    window = Window("w", "Europe/Berlin", (Span((6,), 2 * 3600 + 1800, 4 * 3600),))  # Sunday 02:30 to 04:00
    assert phase(window, utc("2026-03-28T12:00:00"), NONE).until == utc("2026-03-29T01:30:00")
    assert phase(window, utc("2026-10-24T12:00:00"), NONE).until == utc("2026-10-25T00:30:00")


def test_always_open_and_never_open_have_no_next_change():
    always = Window("w", "America/Santiago", (Span(tuple(range(7)), 0, DAY_S),))
    never = Window("w", "UTC", (Span((0,), 0, 60),), (("2020-01-01", "2099-12-31"),))
    assert (phase(always, utc("2026-05-05T05:05:05"), NONE).open, phase(always, 0.0, NONE).until) == (True, None)
    found = phase(never, utc("2026-05-05T05:05:05"), NONE)
    assert (found.open, found.until) == (False, None)
    assert "blackout" in found.why


def test_holidays_close_or_open_by_the_calendar_of_the_place():
    closed = Window("w", "Europe/Berlin", (Span(WORK, 9 * 3600, 17 * 3600),), country="DE", subdivision="BY")
    noon = local("Europe/Berlin", "2026-01-06T12:00:00")  # Epiphany: Bavaria, not Berlin
    found = phase(closed, noon, holiday)
    assert not found.open
    assert found.why
    assert phase(Window("w", "Europe/Berlin", closed.spans, country="DE", subdivision="BE"), noon, holiday).open
    night = Window("w", "Europe/Berlin", (Span(WORK, 0, 60),), country="DE", holiday_rule=HolidayRule.OPEN)
    christmas = local("Europe/Berlin", "2026-12-25T15:00:00")
    assert phase(night, christmas, holiday).open


@pytest.mark.parametrize(
    ("country", "subdivision", "there"), [("DE", "BY", True), ("DE", "ZZ", False), ("QQ", "", False)]
)
def test_a_calendar_that_there_is_not_is_known_not_to_be(country, subdivision, there):
    assert known(country, subdivision) is there

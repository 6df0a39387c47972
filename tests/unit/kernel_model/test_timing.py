"""When a schedule is due: cron expressions in zones, against a model that walks through the minutes."""

import itertools
import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model.timing import Timing, check, expression, parse_every
from hypothesis import given, settings
from hypothesis import strategies as st

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu",
    "Pacific/Apia", "Africa/Casablanca", "Asia/Beirut", "America/Santiago", "Atlantic/Azores", "Antarctica/Troll",
]  # fmt: skip
HOUR = 3600


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold).timestamp()


def local(moment: float | None, zone: str) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(zone)).isoformat()


def first(timing: Timing, after: float, count: int) -> list[float]:
    return [moment for moment, _ in zip(timing.iterate(after), range(count), strict=False)]


# The model: minute by minute of real time, with sets of numbers for fields.


def _day_matches(wall: datetime, days, weekdays) -> bool:
    dom = days is None or wall.day in days
    dow = weekdays is None or (wall.weekday() + 1) % 7 in weekdays
    return (dom or dow) if days is not None and weekdays is not None else (dom and dow)


def _wall_matches(wall: datetime, fields) -> bool:
    minutes, hours, days, months, weekdays = fields
    return (
        (minutes is None or wall.minute in minutes)
        and (hours is None or wall.hour in hours)
        and (months is None or wall.month in months)
        and _day_matches(wall, days, weekdays)
    )


def model(fields, zone: zoneinfo.ZoneInfo, start: int, minutes: int) -> list[float]:
    """A job that matches every hour runs by each minute as it passes. Any other keeps the latest wall clock time it
    has seen, and runs when a minute of wall clock time beyond that, seen or jumped over, matches."""
    hourly = fields[1] is None or len(fields[1]) == 24
    out = []
    seen = datetime.fromtimestamp(start, zone).replace(tzinfo=None)
    for number in range(1, minutes + 1):
        moment = start + 60 * number
        wall = datetime.fromtimestamp(moment, zone).replace(tzinfo=None)
        if hourly:
            due = _wall_matches(wall, fields)
        else:
            due = False
            while seen < wall:
                seen += timedelta(minutes=1)
                due = due or _wall_matches(seen, fields)
        if due:
            out.append(float(moment))
    return out


def _field(low: int, high: int):
    return st.one_of(st.none(), st.sets(st.integers(low, high), min_size=1, max_size=4))


def _text(field) -> str:
    return "*" if field is None else ",".join(map(str, sorted(field)))


@settings(deadline=None, max_examples=60)
@given(
    zone=st.sampled_from(ZONES),
    fields=st.tuples(
        _field(0, 59), st.one_of(_field(0, 23), st.sets(st.integers(0, 3), min_size=1)), _field(1, 31), st.none(),
        st.one_of(st.none(), _field(0, 6)),
    ),
    year=st.integers(2005, 2030),
    data=st.data(),
)  # fmt: skip
def test_occurrences_around_any_clock_change_are_those_of_a_minute_by_minute_model(zone, fields, year, data):
    tz = zoneinfo.ZoneInfo(zone)
    changes = _changes(tz, year)
    middle = data.draw(st.sampled_from(changes)) if changes else int(datetime(year, 6, 1, tzinfo=UTC).timestamp())
    start = middle - 60 * data.draw(st.integers(1, 60 * 26))
    wanted = model(fields, tz, start, 60 * 50)
    timing = Timing(cron=" ".join(_text(f) for f in fields), time_zone=zone)
    found = []
    for moment in timing.iterate(start):
        if moment > start + 3600 * 50:
            break
        found.append(moment)
    assert found == wanted
    after = data.draw(st.integers(start, start + 3600 * 50))  # and from any moment, not only along the chain
    for moment in (after, after + 0.5):
        later = [m for m in wanted if m > moment]
        assert not later or timing.next_after(moment) == later[0]


def _changes(tz, year: int) -> list[int]:
    begin = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    out = []
    for hour in range(24 * 366):
        moment = begin + hour * HOUR
        before = datetime.fromtimestamp(moment, tz).utcoffset()
        if before != datetime.fromtimestamp(moment + HOUR, tz).utcoffset():
            out.append(moment)
    return out


def test_a_nightly_job_in_the_skipped_hour_runs_once_at_the_jump():
    timing = Timing(cron="30 2 * * *", time_zone="Europe/Berlin")
    assert [local(m, "Europe/Berlin") for m in first(timing, at("2026-03-28T12:00", "Europe/Berlin"), 2)] == [
        "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00",
    ]  # fmt: skip


def test_a_nightly_job_in_the_doubled_hour_runs_once_the_first_time():
    timing = Timing(cron="30 2 * * *", time_zone="Europe/Berlin")
    assert [local(m, "Europe/Berlin") for m in first(timing, at("2026-10-24T12:00", "Europe/Berlin"), 2)] == [
        "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00",
    ]  # fmt: skip


def test_an_hourly_job_runs_once_each_hour_that_passes():
    timing = Timing(cron="15 * * * *", time_zone="Europe/Berlin")
    for day in ("2026-03-29", "2026-10-25"):
        found = first(timing, at(f"{day}T00:00", "Europe/Berlin"), 6)
        assert {b - a for a, b in itertools.pairwise(found)} == {HOUR}


def test_a_job_every_second_night_hour_is_no_hourly_job_and_loses_no_run_to_the_jump():
    found = first(Timing(cron="0 */2 * * *", time_zone="Europe/Berlin"), at("2026-03-29T00:30", "Europe/Berlin"), 2)
    assert [local(m, "Europe/Berlin") for m in found] == ["2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"]


def test_a_whole_day_that_a_zone_skipped_is_made_up_for_once():
    found = first(Timing(cron="0 2 * * *", time_zone="Pacific/Apia"), at("2011-12-29T12:00", "Pacific/Apia"), 2)
    assert [local(m, "Pacific/Apia") for m in found] == ["2011-12-31T00:00:00+14:00", "2011-12-31T02:00:00+14:00"]


@pytest.mark.parametrize(
    ("cron", "wanted"),
    [
        ("30 0 4 * * *", ["2026-01-01T04:00:30+00:00", "2026-01-02T04:00:30+00:00"]),
        ("*/20 * * * * *", ["2026-01-01T00:00:20+00:00", "2026-01-01T00:00:40+00:00"]),
        ("0 0 L * *", ["2026-01-31T00:00:00+00:00", "2026-02-28T00:00:00+00:00"]),
        ("0 0 * * 5L", ["2026-01-30T00:00:00+00:00", "2026-02-27T00:00:00+00:00"]),
        ("0 0 * * MON#1", ["2026-01-05T00:00:00+00:00", "2026-02-02T00:00:00+00:00"]),
        ("0 12 * jan-feb mon-fri", ["2026-01-01T12:00:00+00:00", "2026-01-02T12:00:00+00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00"]),
        ("@hourly", ["2026-01-01T01:00:00+00:00", "2026-01-01T02:00:00+00:00"]),
        ("@weekly", ["2026-01-04T00:00:00+00:00", "2026-01-11T00:00:00+00:00"]),
        ("@yearly", ["2027-01-01T00:00:00+00:00", "2028-01-01T00:00:00+00:00"]),
    ],
)
def test_expressions_mean_what_cron_says(cron, wanted):
    found = first(Timing(cron=cron), at("2026-01-01T00:00"), 2)
    assert [local(m, "UTC") for m in found] == wanted


@pytest.mark.parametrize(
    "cron",
    ["", "*", "* * * *", "60 * * * *", "* * * * * * *", "@reboot", "@every", "@every 0s", "@every 400d", "@every 1.5h",
     "@every -1h", "a b c d e", "* * 30 2 *", "*/0 * * * *", "5-1 * * * *", "² * * * *", "9" * 300 + " * * * *",
     "0 0 * * MON#6", "0 0 * * L"],
)  # fmt: skip
def test_what_is_no_expression_is_refused_with_the_field(cron):
    with pytest.raises(InvalidArgument) as caught:
        check(Timing(cron=cron))
    assert caught.value.reason == "SCHEDULE_INVALID"
    assert caught.value.violations[0].field == "schedule.cron"


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text):
    try:
        check(Timing(cron=text))
    except InvalidArgument:
        return
    Timing(cron=text).next_after(at("2026-01-01T00:00"))


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "x" * 5000])
def test_what_is_no_zone_is_refused(zone):
    with pytest.raises(InvalidArgument) as caught:
        check(Timing(cron="@daily", time_zone=zone))
    assert caught.value.violations[0].field == "schedule.time_zone"


def test_an_expression_that_never_matches_has_no_next_time():
    assert Timing(cron="* * */20 * 1L").next_after(at("2020-01-01T00:00")) is None


@given(period=st.integers(1, 400_000), anchor=st.integers(0, 2_000_000_000), after=st.integers(0, 2_000_000_000))
def test_every_counts_from_its_anchor_and_does_not_drift(period, anchor, after):
    found = Timing(cron=f"@every {period}s", anchor=float(anchor)).next_after(float(after))
    assert found > after
    assert (found - anchor) % period == 0
    assert found >= anchor
    assert found == anchor or found - period <= after


def test_every_adds_up_its_parts():
    assert parse_every("@every 1d2h3m4s") == 93784
    assert parse_every("@every 1h30m") == 5400


def test_bounds_hold_the_start_and_not_the_end():
    start, end = at("2026-01-02T00:00"), at("2026-01-04T00:00")
    timing = Timing(cron="@daily", start=start, end=end)
    assert first(timing, 0.0, 10) == [start, start + 86400]


def test_one_moment_comes_once():
    assert first(Timing(run_at=1000.0), 0.0, 5) == [1000.0]
    assert Timing(run_at=1000.0).next_after(1000.0) is None


def test_the_latest_occurrences_of_a_long_time_are_found_without_walking_through_it():
    now = at("2026-01-01T00:00")
    found, more = Timing(cron="* * * * * *").latest(0.0, now, 3)
    assert found == [now - 2, now - 1, now]
    assert more
    assert Timing(cron="@yearly").latest(at("2020-06-01T00:00"), now, 100) == (
        [at(f"{y}-01-01T00:00") for y in range(2021, 2027)], False,
    )  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(
    cron=st.sampled_from(["* * * * *", "0 3 * * *", "@every 7m", "*/10 2-4 * * *"]),
    length=st.integers(1, 5 * 86400), limit=st.integers(1, 20),
)  # fmt: skip
def test_the_latest_are_the_end_of_the_whole_list(cron, length, limit):
    timing = Timing(cron=cron, time_zone="Europe/Berlin", anchor=5.0)
    begin = at("2026-03-27T00:00")
    every = []
    for moment in timing.iterate(begin):
        if moment > begin + length:
            break
        every.append(moment)
    assert timing.latest(begin, begin + length, limit) == (every[-limit:], len(every) > limit)


def test_the_end_of_the_calendar_is_no_error():
    end = datetime(9999, 12, 31, 23, 59, tzinfo=UTC).timestamp()
    for cron in ("* * * * *", "0 2 * * *"):
        assert Timing(cron=cron, time_zone="Pacific/Apia").next_after(end) is None


def test_an_expression_is_parsed_once():
    assert expression("1 2 3 4 5") is expression("1 2 3 4 5")

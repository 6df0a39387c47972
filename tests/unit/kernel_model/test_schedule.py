"""What a schedule does about missed times, jitter and variables."""

from dataclasses import replace

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model import template
from hypersdk_kernel.model.schedule import MissedPolicy, Plan, Schedule, Status, advanced, job_id, plan, start_time
from hypersdk_kernel.model.timing import Timing
from hypothesis import given, settings
from hypothesis import strategies as st

DAY = 86400.0
MADE = Schedule("nightly", "uid-1", "local", Timing(cron="@every 100s"), {}, Status(cursor=0.0), 0.0, 0.0)


def test_nothing_is_due_before_its_time():
    assert plan(MADE, 99.0) is None


def test_what_is_on_time_runs_whatever_the_policy():
    for policy in MissedPolicy:
        assert plan(replace(MADE, missed=policy), 100.0) == Plan((100.0,))


@pytest.mark.parametrize(
    ("policy", "limit", "run", "missed"),
    [
        (MissedPolicy.SKIP, 1, (), 10),
        (MissedPolicy.RUN_ONCE, 1, (1000.0,), 9),
        (MissedPolicy.CATCH_UP, 3, (800.0, 900.0, 1000.0), 7),
        (MissedPolicy.CATCH_UP, 50, tuple(100.0 * n for n in range(1, 11)), 0),
    ],
)
def test_missed_occurrences_are_dealt_with_by_policy(policy, limit, run, missed):
    schedule = replace(MADE, missed=policy, catch_up_limit=limit)
    found = plan(schedule, 1090.0)
    assert found is not None
    assert (found.run, found.missed) == (run, missed)


def test_after_a_skipped_stretch_the_newest_still_runs_when_it_is_on_time():
    found = plan(replace(MADE, missed=MissedPolicy.SKIP), 1030.0)
    assert found == Plan((1000.0,), 9, 100.0, 900.0)


def test_a_paused_schedule_has_nothing_to_do():
    assert plan(replace(MADE, paused=True), 1000.0) is None
    assert advanced(replace(MADE, paused=True), 0.0).status.next_start_time is None


def test_a_year_of_missed_seconds_is_counted_as_at_least_a_thousand_and_costs_little():
    schedule = replace(MADE, timing=Timing(cron="* * * * * *"), missed=MissedPolicy.CATCH_UP, catch_up_limit=2)
    found = plan(schedule, 365 * DAY)
    assert found is not None
    assert found.run == (365 * DAY - 1, 365 * DAY)
    assert (found.missed, found.more) == (998, True)


def test_the_cursor_never_goes_back():
    assert advanced(replace(MADE, status=Status(cursor=500.0)), 100.0).status.cursor == 500.0


@given(jitter=st.floats(0.001, 1000.0), number=st.integers(1, 10_000))
def test_jitter_is_bounded_keeps_the_order_and_is_always_the_same(jitter, number):
    schedule = replace(MADE, jitter_s=jitter)
    occurrence = number * 100.0
    begins = start_time(schedule, occurrence)
    assert 0.0 <= begins - occurrence < min(jitter, 100.0) + 1e-6
    assert begins == start_time(replace(schedule, uid="another"), occurrence)
    assert begins <= start_time(schedule, occurrence + 100.0)


def test_jitter_spreads_schedules_of_the_same_time():
    starts = {start_time(replace(MADE, id=f"s{n}", jitter_s=60.0), 100.0) for n in range(100)}
    assert len(starts) > 95


@settings(deadline=None)
@given(
    now=st.floats(0.0, 5000.0), cursor=st.integers(0, 50), jitter=st.floats(0.0, 200.0),
    policy=st.sampled_from(MissedPolicy), limit=st.integers(1, 20),
)  # fmt: skip
def test_a_plan_accounts_for_every_due_occurrence_once(now, cursor, jitter, policy, limit):
    schedule = replace(
        MADE, status=Status(cursor=cursor * 100.0), jitter_s=jitter, missed=policy, catch_up_limit=limit
    )
    due = [t for n in range(1, 60) if (t := n * 100.0) > cursor * 100.0 and start_time(schedule, t) <= now]
    found = plan(schedule, now)
    if not due:
        assert found is None
        return
    assert found is not None
    assert found.missed + len(found.run) == len(due)
    assert list(found.run) == due[len(due) - len(found.run) :]
    if found.missed:
        assert found.missed_until == due[found.missed - 1]


def test_a_jobs_id_is_readable_short_enough_and_another_for_a_schedule_made_anew():
    long = replace(MADE, id="s" * 63)
    assert job_id(MADE, 0.0).startswith("nightly-19700101t000000-")
    assert len(job_id(long, 1e9)) <= 63
    assert job_id(MADE, 0.0) == job_id(MADE, 0.0)
    assert job_id(MADE, 0.0) != job_id(replace(MADE, uid="uid-2"), 0.0)


def test_variables_are_put_into_every_string_of_a_template():
    schedule = replace(MADE, timing=Timing(cron="@daily", time_zone="Asia/Tokyo"), variables={"where": "lab"})
    values = template.values(schedule, 1_767_222_000.0, 7)
    given = {"spec": {"to": "${where}/${scheduled_date}/${run_number}", "n": 3, "l": ["${schedule}", True, None]}}
    assert template.expand(given, values) == {
        "spec": {"to": "lab/2026-01-01/7", "n": 3, "l": ["nightly", True, None]}
    }
    assert values["scheduled_time"] == "2025-12-31T23:00:00Z"
    assert values["scheduled_stamp"] == "20251231T230000Z"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$${where}", "${where}"), ("$where $", "$where $"), ("${where}}", "lab}"), ("$$", "$$"),
        ("$$${where}", "$${where}"),
    ],
)
def test_a_dollar_is_itself_unless_it_opens_a_variable(text, wanted):
    assert template.expand(text, {"where": "lab"}) == wanted


@pytest.mark.parametrize("text", ["${", "${}", "${nope}", "${where", "${ where}", "${Where}", "a ${x}"])
def test_what_is_no_variable_is_refused_with_its_place(text):
    with pytest.raises(InvalidArgument) as caught:
        template.expand({"spec": {"a": ["", text]}}, {"where": "lab"})
    assert caught.value.reason == "SCHEDULE_INVALID"
    assert caught.value.violations[0].field == "schedule.job_template.spec.a[1]"


def test_a_value_is_not_looked_at_again():
    assert template.expand("${a}", {"a": "${b}", "b": "no"}) == "${b}"


def test_text_that_grows_without_measure_is_refused():
    with pytest.raises(InvalidArgument):
        template.expand("${a}" * 1000, {"a": "x" * 1000})


@pytest.mark.parametrize("name", ["schedule", "run_number", "A", "1a", "a-b", "", "a" * 64, "a}"])
def test_names_that_cannot_be_variables_are_refused(name):
    with pytest.raises(InvalidArgument):
        template.check_variables({name: "x"})


@given(st.text(max_size=60))
def test_no_text_breaks_the_template(text):
    try:
        template.expand(text, {"a": "b"})
    except InvalidArgument as exc:
        assert exc.reason == "SCHEDULE_INVALID"

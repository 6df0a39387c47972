"""Schedules become jobs: at their time, once, whatever the clock and the kernel do in between."""

import asyncio
import itertools
from dataclasses import replace

import pytest
from hypersdk.errors import InvalidArgument, NotFound, Unavailable
from hypersdk_kernel.engine.scheduler import BATCH
from hypersdk_kernel.model.dependency import Need
from hypersdk_kernel.model.job import JobEvent, JobState
from hypersdk_kernel.model.schedule import MAX_QUEUED, MissedPolicy, OverlapPolicy
from hypersdk_kernel.model.timing import Timing
from hypersdk_kernel.store.events import page as events_page
from support.scheduling import Crash, Timetable
from support.timetables import DAY, HOUR, TEMPLATE, kinds, pass_time, schedule


async def test_an_occurrence_becomes_a_job_that_says_where_it_comes_from(table):
    made = await schedule(table)
    await pass_time(table, HOUR - 1)
    assert await table.jobs.all() == []
    await pass_time(table, 1)
    (job,) = await table.jobs.all()
    assert (job.schedule, job.scheduled_time, job.owner) == ("s", made.status.next_time, "local")
    assert job.spec["to"].endswith("-1")
    status = (await table.schedules.get("s")).status
    assert (status.run_count, status.last_job, status.last_time) == (1, job.id, job.scheduled_time)
    assert status.next_time == job.scheduled_time + HOUR
    assert await kinds(table) == ["schedule.created", "schedule.fired"]


async def test_the_end_of_a_run_is_counted_in_the_transaction_of_the_end(table):
    await schedule(table, overlap=OverlapPolicy.QUEUE)
    ends = (JobEvent.SUCCEED, JobEvent.FAIL, JobEvent.CANCEL)
    for event in ends:
        await pass_time(table, HOUR)
        await table.jobs.end((await table.schedules.get("s")).status.last_job, event)
    status = (await table.schedules.get("s")).status
    assert (status.succeeded_count, status.failed_count, status.cancelled_count) == (1, 1, 1)
    assert status.last_outcome == "cancelled"


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(1, 7))
@pytest.mark.parametrize("overlap", list(OverlapPolicy))
async def test_a_crash_at_any_write_neither_loses_nor_doubles_a_run(each, step, before, overlap):
    table = each
    await schedule(table, overlap=overlap, missed=MissedPolicy.CATCH_UP, catch_up_limit=3)
    await pass_time(table, HOUR)  # a run that others overlap with
    table.clock.advance(5 * HOUR)
    table.store.writes, table.store.dies_at, table.store.before = 0, step, before
    try:
        await table.settle()
    except Crash:
        await table.reboot()
        await table.settle()
    jobs = await table.jobs.all()
    begin = jobs[0].scheduled_time
    times = [(job.scheduled_time - begin) / HOUR for job in jobs]
    status = (await table.schedules.get("s")).status
    if overlap is OverlapPolicy.FORBID:
        assert (times, status.skipped_count) == ([0], 3)
    else:
        assert (times, status.skipped_count) == ([0, 3, 4, 5], 0)
    assert (status.missed_count, status.run_count) == (2, len(jobs))


async def test_two_schedulers_at_once_make_one_job(each):
    table = each
    await schedule(table)
    other = Timetable(table.real, table.clock)
    await other.scheduler.load()
    table.clock.advance(HOUR)
    await asyncio.gather(table.scheduler.tick(), other.scheduler.tick())
    assert len(await table.jobs.all()) == 1
    await other.scheduler.stop()


async def test_a_clock_that_jumps_a_day_ahead_applies_the_policy_once(table):
    await schedule(table, "once", "* * * * *", overlap=OverlapPolicy.QUEUE)
    await schedule(table, "skip", "* * * * *", missed=MissedPolicy.SKIP, missed_after_s=0.0)
    await schedule(
        table, "up", "* * * * *", missed=MissedPolicy.CATCH_UP, catch_up_limit=5, overlap=OverlapPolicy.QUEUE
    )
    table.clock.set(table.clock.now() + DAY + 30)
    await table.settle()
    count = {name: (await table.schedules.get(name)).status for name in ("once", "skip", "up")}
    assert {name: status.run_count for name, status in count.items()} == {"once": 1, "skip": 0, "up": 5}
    assert {name: status.missed_count for name, status in count.items()} == {"once": 999, "skip": 1000, "up": 995}


async def test_a_clock_that_jumps_a_day_back_runs_nothing_again(table):
    await schedule(table, overlap=OverlapPolicy.QUEUE)
    for _ in range(30):
        await pass_time(table, HOUR)
    times = [job.scheduled_time for job in await table.jobs.all()]
    table.clock.set(table.clock.now() - DAY)
    await table.reboot()
    for _ in range(24):
        await pass_time(table, HOUR)
    assert [job.scheduled_time for job in await table.jobs.all()] == times
    await pass_time(table, HOUR)
    assert len(await table.jobs.all()) == 31


async def test_what_was_due_while_the_daemon_was_down_follows_the_policy(table):
    await schedule(table)
    await table.scheduler.stop()
    table.clock.advance(10 * HOUR)
    await table.reboot()
    await table.settle()
    (job,) = await table.jobs.all()
    assert job.scheduled_time == table.clock.now()
    assert (await table.schedules.get("s")).status.missed_count == 9
    assert await kinds(table) == ["schedule.created", "schedule.missed", "schedule.fired"]


async def test_forbidden_overlap_skips_and_says_which_job_was_in_the_way(table):
    await schedule(table)
    await pass_time(table, HOUR)
    await pass_time(table, HOUR)
    (job,) = await table.jobs.all()
    events = await table.real.read(lambda conn: events_page(conn, 0, 100))
    (skipped,) = [event for event in events if event.type == "schedule.skipped"]
    assert job.name in skipped.payload["message"]
    await table.jobs.end(job.id)
    await pass_time(table, HOUR)
    assert len(await table.jobs.all()) == 2


async def test_queued_runs_wait_for_every_run_before_them(table):
    await schedule(table, overlap=OverlapPolicy.QUEUE)
    for _ in range(3):
        await pass_time(table, HOUR)
    first, second, third = await table.jobs.all()
    assert [(d.job_id, d.need) for d in third.dependencies] == [
        (first.id, Need.FINISHED), (second.id, Need.FINISHED),
    ]  # fmt: skip
    assert second.dependencies == third.dependencies[:1]


async def test_queued_runs_do_not_pile_up_without_end(table):
    await schedule(table, cron="* * * * *", overlap=OverlapPolicy.QUEUE)
    for _ in range(MAX_QUEUED + 3):
        await pass_time(table, 60)
    status = (await table.schedules.get("s")).status
    assert (status.run_count, status.skipped_count) == (MAX_QUEUED, 3)


async def test_a_replaced_run_is_cancelled_and_waited_for(table):
    await schedule(table, overlap=OverlapPolicy.REPLACE)
    await pass_time(table, HOUR)
    (first,) = await table.jobs.all()
    await table.jobs.start(first.id)
    await pass_time(table, HOUR)
    first, second = await table.jobs.all()
    assert first.cancel_requested
    assert [d.job_id for d in second.dependencies] == [first.id]
    await pass_time(table, HOUR)
    first, second, third = await table.jobs.all()
    assert second.state is JobState.CANCELLED
    assert [d.job_id for d in third.dependencies] == [first.id]


async def test_nothing_is_cancelled_for_a_run_that_cannot_be_created(table):
    await schedule(table, overlap=OverlapPolicy.REPLACE)
    await pass_time(table, HOUR)
    table.jobs.fails = [InvalidArgument("the connection has gone", reason="CONNECTION_UNKNOWN")]
    await pass_time(table, HOUR)
    (job,) = await table.jobs.all()
    assert job.state is JobState.QUEUED
    status = (await table.schedules.get("s")).status
    assert (status.refused_count, status.last_error["reason"]) == (1, "CONNECTION_UNKNOWN")
    await pass_time(table, HOUR)
    assert (await table.schedules.get("s")).status.last_error is None


async def test_a_store_that_cannot_write_delays_a_run_and_loses_none(table):
    await schedule(table)
    table.jobs.fails = [Unavailable("the disk is full", reason="STORE_BUSY")]
    table.clock.advance(HOUR)
    await table.scheduler.tick()
    assert await table.jobs.all() == []
    assert table.scheduler.next_due == table.clock.now() + 5.0
    await pass_time(table, 5.0)
    assert len(await table.jobs.all()) == 1


async def test_a_store_that_cannot_write_for_long_is_asked_less_and_less_often(table):
    await schedule(table)
    table.jobs.fails = [Unavailable("maintenance", reason="MAINTENANCE")] * 7
    table.clock.advance(HOUR)
    waits = []
    for _ in range(7):
        await table.scheduler.tick()
        waits.append(table.scheduler.next_due - table.clock.now())
        table.clock.set(table.scheduler.next_due)
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    await table.settle()
    assert len(await table.jobs.all()) == 1
    assert table.scheduler._failures == {}


async def test_a_defect_in_one_schedule_stops_no_other(table):
    await schedule(table, "a")
    await schedule(table, "b")
    table.jobs.fails = [RuntimeError("a defect")]
    table.clock.advance(HOUR)
    await table.scheduler.tick()
    assert len(await table.jobs.all()) == 1
    await pass_time(table, 60.0)
    assert len(await table.jobs.all()) == 2


async def test_a_paused_schedule_fires_nothing_and_makes_up_for_nothing(table):
    await schedule(table)
    paused = await table.schedules.pause("s", "array rebuild", actor="local")
    assert (paused.state, paused.pause_reason, paused.status.next_time) == ("paused", "array rebuild", None)
    await pass_time(table, 10 * HOUR)
    await table.schedules.resume("s", actor="local")
    await pass_time(table, HOUR - 1)
    assert await table.jobs.all() == []
    await pass_time(table, 1)
    assert len(await table.jobs.all()) == 1
    assert (await table.schedules.get("s")).status.missed_count == 0


async def test_a_new_timing_counts_from_now_and_other_edits_lose_no_occurrence(table):
    await schedule(table, jitter_s=600.0)
    begins = (await table.schedules.get("s")).status.next_start_time
    table.clock.set((await table.schedules.get("s")).status.next_time + 0.001)
    await table.schedules.update("s", {"display_name": "x"}, actor="local")
    assert (await table.schedules.get("s")).status.next_start_time == begins
    changed = await table.schedules.update("s", {"timing": Timing(cron="@every 2h")}, actor="local")
    assert changed.status.next_time == int(table.clock.now()) + 2 * HOUR


async def test_one_moment_fires_once_and_the_schedule_is_finished(table):
    await table.schedules.create(
        "s", {"timing": Timing(run_at=table.clock.now() + 10), "template": TEMPLATE}, actor="local"
    )
    await pass_time(table, 10)
    await pass_time(table, DAY)
    assert len(await table.jobs.all()) == 1
    assert (await table.schedules.get("s")).state == "finished"


@pytest.mark.parametrize(
    "values",
    [
        {"timing": Timing(cron="bad")},
        {"timing": Timing(run_at=1.0)},
        {"timing": Timing(cron="@daily", end=2.0)},
        {"template": {"task": "noop", "spec": {"x": "${nope}"}}},
        {"variables": {"run_number": "1"}},
        {"catch_up_limit": 101},
    ],
)
async def test_what_could_never_run_is_refused_when_it_is_made(table, values):
    with pytest.raises(InvalidArgument) as caught:
        await table.schedules.create(
            "s", {"timing": Timing(cron="@daily"), "template": TEMPLATE, **values}, actor="local"
        )
    assert caught.value.reason == "SCHEDULE_INVALID"
    with pytest.raises(NotFound):
        await table.schedules.get("s")


async def test_a_template_that_no_task_takes_is_refused_when_it_is_made(table):
    with pytest.raises(InvalidArgument) as caught:
        await schedule(table, template={"task": "gone"})
    assert caught.value.reason == "TASK_UNKNOWN"


async def test_thousands_due_at_once_are_dealt_with_in_batches(table):
    count = BATCH + 20
    for number in range(count):
        await schedule(table, f"s{number}", "0 0 * * *")
    table.clock.advance(DAY)
    await table.scheduler.tick()
    assert len(await table.jobs.all()) == BATCH
    await table.settle()
    assert len(await table.jobs.all()) == count


async def test_superseded_times_do_not_pile_up_in_memory(table):
    await schedule(table)
    for number in range(BATCH * 3):
        table.scheduler._set("s", table.clock.now() + 1000 + number)
    assert len(table.scheduler._heap) <= BATCH + 2


async def test_a_preview_is_what_then_happens(table):
    made = await schedule(table, jitter_s=300.0, overlap=OverlapPolicy.QUEUE)
    said = await table.schedules.preview(made, None, 3)
    for occurrence, begins in said:
        table.clock.set(begins - 0.001)
        await table.settle()
        assert occurrence not in [job.scheduled_time for job in await table.jobs.all()]
        table.clock.set(begins)
        await table.settle()
    assert [job.scheduled_time for job in await table.jobs.all()] == [occurrence for occurrence, _ in said]
    assert all(a < b for a, b in itertools.pairwise(said))


async def test_the_loop_sleeps_until_the_earliest_and_wakes_for_an_earlier_one(table):
    await table.scheduler.stop()
    await table.scheduler.start()
    await schedule(table, "late", "@every 1d")
    woken = table.scheduler._wake
    await asyncio.sleep(0)
    woken.clear()
    table.scheduler._asleep_until = table.clock.now() + 30
    table.scheduler._set("later", table.clock.now() + 1000)
    assert not woken.is_set()
    table.scheduler._set("soon", table.clock.now() + 1)
    assert woken.is_set()


async def test_an_unknown_field_cannot_be_updated(table):
    made = await schedule(table)
    with pytest.raises(InvalidArgument) as caught:
        await table.schedules.update("s", {"owner": "eve"}, actor="eve")
    assert caught.value.reason == "FIELD_IMMUTABLE"
    assert replace(made) == await table.schedules.get("s")

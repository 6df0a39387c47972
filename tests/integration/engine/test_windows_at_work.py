"""What becomes of running jobs when their window closes, of late and long ones, and how bandwidth follows; no second of
real time passes."""

import datetime as dt

import pytest
from hypersdk.errors import InvalidArgument
from hypersdk_kernel.model.job import NewJob
from hypersdk_kernel.model.limit import Limit, Scope
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.model.window import OnClose, Span, Window
from hypersdk_kernel.store.sqlite import Sqlite
from support.engineworld import World

HOUR = 3600.0
MIDNIGHT = dt.datetime(2027, 1, 4, tzinfo=dt.UTC).timestamp()  # a Monday


@pytest.fixture
async def world(registry, tmp_path):
    made = World(lambda: Sqlite(tmp_path / "state.db"), registry, tmp_path)
    made.clock._now = MIDNIGHT
    await made.boot()
    yield made
    await made.lose()


async def night(world, on_close, **fields):
    """Open from midnight to six, every day."""
    window = Window("nights", spans=(Span(tuple(range(7)), 0, 6 * 3600),), on_close=on_close, **fields)
    await world.engine.windows.create(window, actor="test")
    await world.settle()


def job(name="j", **fields):
    return NewJob(name, "probe", {"count": "x"}, retry=RetryPolicy(1), **fields)


async def submit(world, **fields):
    await world.jobs.create(job(**fields), actor="test")
    await world.settle()


def state(world, name="j"):
    return world.jobs.peek(name).state.value


async def test_a_window_that_lets_finish_leaves_its_jobs_alone(world):
    await night(world, OnClose.FINISH)
    await submit(world, window="nights")
    await world.pass_time(7 * HOUR)
    assert state(world) == "running"


async def test_a_window_that_pauses_lets_go_on_at_its_next_opening_also_after_a_restart(world):
    await night(world, OnClose.PAUSE)
    await submit(world, window="nights")
    await world.pass_time(6 * HOUR)
    assert (state(world), world.jobs.peek("j").paused_by) == ("paused", "window")
    assert world.dispatcher.runner("j").paused
    assert "windows/nights" in world.engine.explainer.explain(world.jobs.peek("j")).summary
    await world.lose()
    await world.boot()
    assert state(world) == "paused"
    await world.pass_time(18 * HOUR)
    assert state(world) == "running"
    assert not world.dispatcher.runner("j").paused
    await world.finish("j", "succeed")
    assert (state(world), world.jobs.peek("j").attempt_count) == ("succeeded", 1)


async def test_a_window_that_stops_lets_the_next_attempt_go_on_and_does_not_count_the_stopped_one(world):
    await night(world, OnClose.STOP)
    await submit(world, window="nights")
    await world.pass_time(6 * HOUR)
    await world.pass_time(1.0)
    held = world.jobs.peek("j")
    assert (held.state.value, held.next_attempt_time) == ("waiting", MIDNIGHT + 24 * HOUR)
    await world.pass_time(18 * HOUR)
    assert state(world) == "running"
    await world.finish("j", "succeed")
    assert (state(world), world.jobs.peek("j").attempt_count) == ("succeeded", 2)


async def test_a_window_that_cancels_cancels(world):
    await night(world, OnClose.CANCEL)
    await submit(world, window="nights")
    await world.pass_time(6 * HOUR)
    assert state(world) == "cancelled"
    assert world.jobs.peek("j").error["reason"] == "WINDOW_CLOSED"


async def test_an_edited_window_counts_at_once_for_what_runs_and_for_what_waits(world):
    await night(world, OnClose.PAUSE)
    await submit(world, window="nights")
    dark = (("2000-01-01", "2099-12-31"),)
    never = Window("nights", spans=(Span((0,), 0, 60),), blackouts=dark, on_close=OnClose.PAUSE)
    await world.engine.windows.update("nights", lambda _: never, actor="test")
    await world.settle()
    world.ring()
    await world.settle()
    assert state(world) == "paused"


async def test_an_attempt_that_runs_too_long_fails_and_says_so(world):
    await submit(world, max_run_s=HOUR)
    await world.pass_time(HOUR - 1)
    assert state(world) == "running"
    await world.pass_time(1.0)
    assert (state(world), world.jobs.peek("j").error["reason"]) == ("failed", "RUN_TIME_EXCEEDED")


@pytest.mark.parametrize("paused", [False, True])
async def test_a_job_that_has_not_ended_by_its_deadline_fails_running_or_paused(world, paused):
    await submit(world, deadline=MIDNIGHT + HOUR)
    if paused:
        await world.jobs.pause("j", actor="test")
        await world.settle()
    await world.pass_time(HOUR)
    assert (state(world), world.jobs.peek("j").error["reason"]) == ("failed", "DEADLINE_PASSED")


async def test_bandwidth_is_shared_live_among_those_that_run(world):
    await world.engine.limits.create(Limit("wan", Scope.ALL, bandwidth_bytes=1000), actor="test")
    await world.settle()
    await submit(world, name="a")
    await submit(world, name="b", bandwidth_limit_bytes=100)
    first, second = world.dispatcher.runner("a"), world.dispatcher.runner("b")
    assert (first.rates[-1], (second.rates or [100])[-1]) == (900, 100)
    await world.finish("b", "succeed")
    assert first.rates[-1] == 1000
    await world.engine.limits.delete("wan", actor="test")
    await world.settle()
    assert first.rates[-1] == 0


async def test_a_limit_of_business_hours_holds_only_while_they_last(world):
    await night(world, OnClose.FINISH)
    limit = Limit("quiet", Scope.ALL, max_running=1, window="nights")
    await world.engine.limits.create(limit, actor="test")
    await world.settle()
    await submit(world, name="a")
    await submit(world, name="b")
    assert (state(world, "a"), state(world, "b")) == ("running", "queued")
    assert "limits/quiet" in world.engine.explainer.explain(world.jobs.peek("b")).summary
    await world.pass_time(6 * HOUR)
    assert state(world, "b") == "running"


async def test_a_job_may_name_a_window_the_moment_after_that_was_created_here_or_through_another_kernel(world):
    window = Window("shut", spans=(Span((5,), 0, 60),))
    world.store.on_commit.clear()  # as where the news of another kernel's window is still on its way
    await world.engine.windows.create(window, actor="test")
    made = await world.jobs.create(job(window="shut"), actor="test")
    assert made.state.value == "waiting"
    assert "windows/shut is closed" in made.state_message
    with pytest.raises(InvalidArgument, match="windows/other does not exist"):
        await world.jobs.create(job("k", window="other"), actor="test")


async def test_whoever_changed_a_window_or_a_limit_finds_the_change_in_force_without_waiting(world):
    await world.engine.windows.create(Window("w", spans=(Span((5,), 0, 60),)), actor="test")
    await world.engine.window_book.settled()
    assert world.engine.window_book.get("w") is not None
    await world.engine.limits.create(Limit("one", scope=Scope.ALL, max_running=1), actor="test")
    await world.engine.control.settled()
    assert [limit.id for limit in world.engine.control._known] == ["one"]

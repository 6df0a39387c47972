"""The wall clock is set under a running engine; no second of real time passes."""

import datetime as dt

import pytest
from hypersdk_kernel.engine.clockwatch import ClockWatch
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import NewJob
from hypersdk_kernel.model.limit import ANY, Limit, Scope
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.model.window import OnClose, Span, Window
from hypersdk_kernel.store.sqlite import Sqlite
from support.engineworld import World

ONCE = RetryPolicy(1)
HOUR, DAY = 3600.0, 86400.0
MONDAY = dt.datetime(2027, 1, 4, 12, tzinfo=dt.UTC).timestamp()


@pytest.fixture
async def world(registry, tmp_path):
    made = World(lambda: Sqlite(tmp_path / "state.db"), registry, tmp_path, max_runners=4)
    made.clock._now = MONDAY
    await made.boot()
    yield made
    await made.lose()


async def submit(world, name="j", retry=ONCE, **fields):
    await world.jobs.create(NewJob(name, "probe", {"count": "x"}, retry=retry, **fields), actor="test")
    await world.settle()


async def limit(world, **fields):
    await world.engine.limits.create(Limit("l", Scope.TASK, ANY, **fields), actor="test")
    await world.settle()


def state(world, name="j"):
    return world.jobs.peek(name).state.value


@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_a_run_time_is_as_long_as_it_was(world, step):
    await submit(world, max_run_s=HOUR)
    await world.pass_time(HOUR / 2)
    await world.set_clock(step)
    await world.pass_time(HOUR / 2 - 1)
    assert state(world) == "running"
    await world.pass_time(1.0)
    assert (state(world), world.jobs.peek("j").error["reason"]) == ("failed", "RUN_TIME_EXCEEDED")


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("step", [DAY, -DAY])
async def test_a_wait_for_the_next_attempt_is_no_longer_than_the_policy_says(world, step, restarts):
    await submit(world, retry=RetryPolicy(2, initial_delay_s=60.0, jitter=0.0))
    await world.finish("j", "stumble")
    await world.set_clock(step)
    if restarts:
        await world.lose()
        await world.boot()
    else:
        await world.pass_time(59.0)
        assert state(world) == "retrying"
    await world.pass_time(60.0)
    assert (state(world), world.jobs.peek("j").attempt_count) == ("running", 2)


async def test_what_a_window_of_a_wrong_clock_kept_goes_on_when_the_clock_is_right(world):
    window = Window("mondays", spans=(Span((0,), 0, 86400),), on_close=OnClose.PAUSE)
    await world.engine.windows.create(window, actor="test")
    await world.settle()
    await submit(world, "runs", window="mondays")
    await world.set_clock(DAY)
    await submit(world, "waits", window="mondays")
    assert (state(world, "runs"), state(world, "waits")) == ("paused", "waiting")
    await world.set_clock(-DAY)
    assert (state(world, "runs"), state(world, "waits")) == ("running", "running")


async def test_a_rate_lets_the_next_start_after_its_period_when_the_clock_is_set_back(world):
    await limit(world, max_starts=1, period_s=60.0)
    await submit(world, "a")
    await submit(world, "b")
    await world.set_clock(-DAY)
    await world.pass_time(59.0)
    assert state(world, "b") == "queued"
    await world.pass_time(1.0)
    assert state(world, "b") == "running"


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_waits_in_the_queue_is_not_passed_by_what_comes_after_the_clock_was_set_back(world, restarts):
    await limit(world, max_running=1)
    await submit(world, "runs")
    await submit(world, "old")
    world.clock.advance(1.0)
    await submit(world, "later")
    await world.set_clock(-DAY)
    await world.set_clock(-DAY)
    if restarts:
        await world.lose()
        await world.boot()
    world.clock.advance(1.0)
    await submit(world, "new")
    for name, following in (("runs", "old"), ("old", "later"), ("later", "new")):
        await world.finish(name, "succeed")
        assert state(world, following) == "running"


def test_only_a_step_is_told_and_once():
    clock, told = ManualClock(), []
    watch = ClockWatch(clock)
    watch.on_step.append(told.append)
    clock.advance(1e6)
    watch.look()
    clock.set(clock.now() + 0.5)
    watch.look()
    assert told == []
    clock.set(clock.now() - DAY)
    watch.look()
    watch.look()
    assert told == [-DAY]

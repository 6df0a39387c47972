"""The wall clock of a running daemon is set a day forwards and a day backwards (RELIABILITY, row 9). What has a time of
the calendar follows it; what has a length of time does not notice; no schedule makes a storm, and nothing waits a day
for the clock to come back."""

import datetime as dt
import random
import time

import pytest
from google.protobuf.json_format import ParseDict
from hypersdk.api.jobs.v1.jobs_pb2 import Job, JobState
from hypersdk.api.policies.v1.policies_pb2 import Window
from hypersdk.api.queue.v1.queue_pb2 import Limit
from hypersdk.api.schedules.v1.schedules_pb2 import Schedule
from hypersdk.client import Client
from support.effects import make_plugin
from support.fakedclock import DAY_S, FakedClock
from support.killing import ENDS, Load, changes, judge, until_all_ended

pytestmark = pytest.mark.faults
JUMPS = pytest.mark.parametrize("jumps", [4, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
RUNNING, WAITING, PAUSED = JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_WAITING, JobState.JOB_STATE_PAUSED
QUEUED, RETRYING = JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RETRYING
SUCCEEDED, FAILED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED
SOON_S = 20.0
"""Far from a day, and enough on a loaded machine."""


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "effects"


@pytest.fixture
def make_daemon(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = []

    def make(*flags):
        made.append(FakedClock(folder, *flags, *make_plugin(tmp_path / "plugin"), "--max-runners", "8"))
        return made[-1].start(60)

    yield make
    for daemon in made:
        daemon.close()


@pytest.fixture
def faked(make_daemon):
    return make_daemon("--cancel-grace-s", "1")


@pytest.fixture
def client(faked):
    with Client(f"unix:{faked.state / 'hypersdkd.sock'}") as opened:
        yield opened


@pytest.fixture
def submit(client, journal):
    """Submit `name`, which works for `work_s`; more of the job as in JSON."""

    def make(name, work_s=0.0, fail="", **fields):
        spec = {"journal": str(journal), "work_s": work_s} | ({"fail": fail} if fail else {})
        return client.jobs.submit(ParseDict({"task": "effect", "spec": spec, **fields}, Job()), job_id=name).name

    return make


@pytest.fixture
def every(client, journal):
    """Make the schedule `name` of brief jobs."""

    def make(name, cron, **fields):
        template = {"task": "effect-brief", "spec": {"journal": str(journal)}}
        return client.schedules.create(
            name, ParseDict({"cron": cron, "job_template": template, **fields}, Schedule())
        ).name

    return make


def stamp(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


def until(client, name, *states):
    deadline = time.monotonic() + SOON_S
    while (job := client.jobs.get(name)).state not in states:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def until_run(client, schedule, times):
    """Wait until a schedule has made so many jobs."""
    deadline = time.monotonic() + SOON_S
    while (counts := client.schedules.get(schedule).counts).runs < times:
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    return counts


def occurrences(client, schedule):
    """The times for which a schedule made jobs."""
    made = client.jobs.list(filter=f'schedule = "{schedule}"', page_size=1000)
    return [job.scheduled_time.ToNanoseconds() for job in made]


def each_ended_once(client):
    """By the log, which is in order of its revisions."""
    jobs = until_all_ended(client, SOON_S)
    events = list(changes(client, jobs))
    assert [event.revision for event in events] == sorted({event.revision for event in events})
    for job in jobs:
        mine = [event.event_type for event in events if event.job.name == job.name]
        assert [kind for kind in mine if kind in ENDS] == mine[-1:], (job.name, mine)


def test_a_day_forwards_starts_what_is_due_once_and_stops_nothing_that_only_runs(faked, client, submit, every):
    second = every("second", "@every 1s")
    hour = every(
        "hour",
        "30 * * * *",
        missed_run_policy={"action": "ACTION_CATCH_UP", "catch_up_limit": 3},
        overlap_policy="OVERLAP_POLICY_QUEUE",
    )
    skipped = every("skipped", "@every 5h", missed_run_policy={"action": "ACTION_SKIP"})
    running = submit("running", 5.0, max_run_duration="3600s")
    paused = submit("paused", 0.5, max_run_duration="3600s")
    for name in (running, paused):
        until(client, name, RUNNING)
    client.jobs.pause(paused)
    late = submit("late", earliest_start_time=stamp(faked.now + DAY_S / 2))
    later = submit("later", earliest_start_time=stamp(faked.now + DAY_S * 2))
    too_late = submit(
        "too-late",
        deadline=stamp(faked.now + DAY_S / 2),
        dependencies=[{"job": later, "need": "DEPENDENCY_NEED_FINISHED"}],
    )
    for name in (late, later, too_late):
        until(client, name, WAITING)
    before = until_run(client, second, 1).runs
    jumped = time.monotonic()
    faked.jump(DAY_S)

    assert until(client, late, SUCCEEDED).attempt_count == 1
    assert until(client, too_late, FAILED).error.reason == "DEADLINE_PASSED"
    until_run(client, hour, 3)
    counts = until_run(client, second, before + 3)
    assert counts.runs - before <= time.monotonic() - jumped + 2, "a storm"
    assert counts.missed >= 999
    assert until(client, running, SUCCEEDED).attempt_count == 1
    client.jobs.resume(paused)
    assert until(client, paused, SUCCEEDED).attempt_count == 1
    assert client.jobs.get(later).state == WAITING
    found = [client.schedules.get(name).counts for name in (hour, skipped)]
    assert [(counts.runs, counts.missed) for counts in found] == [(3, 21), (0, 4)]
    client.schedules.pause(second)
    client.jobs.cancel(later)
    until(client, later, JobState.JOB_STATE_CANCELLED)
    each_ended_once(client)


def test_a_day_backwards_delays_nothing_by_a_day_and_repeats_nothing(faked, client, submit, every):
    rate = {"scope": "LIMIT_SCOPE_LABEL", "label": "rate", "value": "*", "max_starts": 1, "period": "4s"}
    client.queue.create_limit("rate", ParseDict(rate, Limit()))
    single = {"scope": "LIMIT_SCOPE_LABEL", "label": "single", "value": "*", "max_running": 1}
    client.queue.create_limit("single", ParseDict(single, Limit()))
    second = every("second", "@every 1s")
    running = submit("running", 4.0, labels={"single": "x"})
    waits_longest = submit("waits-longest", labels={"single": "x"})
    hangs = submit("hangs", 60.0, max_run_duration="4s")
    retries = submit("retries", fail="once", retry_policy={"initial_delay": "3s", "max_attempts": 2})
    rated = [submit(f"rated-{n}", labels={"rate": "x"}) for n in range(2)]
    late = submit("late", earliest_start_time=stamp(faked.now + 3600))
    for name, state in (
        (running, RUNNING),
        (hangs, RUNNING),
        (retries, RETRYING),
        (rated[0], SUCCEEDED),
        (late, WAITING),
    ):
        until(client, name, state)
    until_run(client, second, 1)
    assert client.jobs.get(rated[1]).state == QUEUED
    faked.jump(-DAY_S)
    ran = client.schedules.get(second).counts.runs

    newer = submit("newer", labels={"single": "x"})
    fresh = every("fresh", "@every 1s")
    assert until(client, hangs, FAILED).error.reason == "RUN_TIME_EXCEEDED"
    assert until(client, retries, SUCCEEDED).attempt_count == 2
    assert until(client, rated[1], SUCCEEDED).attempt_count == 1
    assert until(client, running, SUCCEEDED).attempt_count == 1
    for name in (waits_longest, newer):
        until(client, name, SUCCEEDED)
    until_run(client, fresh, 3)
    assert client.schedules.get(second).counts.runs <= ran + 1, "of a time that had passed"
    assert client.jobs.get(late).state == WAITING
    client.schedules.pause(fresh)
    faked.jump(DAY_S)
    until_run(client, second, ran + 3)
    client.schedules.pause(second)
    times = occurrences(client, second)
    assert len(times) == len(set(times))
    client.jobs.cancel(late)
    until(client, late, JobState.JOB_STATE_CANCELLED)
    each_ended_once(client)
    last = [client.jobs.get(newer)]
    started = [event.job.name for event in changes(client, last) if event.event_type == "job.running"]
    assert started.index(waits_longest) < started.index(newer)


def test_a_window_that_a_wrong_clock_closed_opens_when_the_clock_is_put_right(faked, client, submit):
    spans = [{"days": ["WEEKDAY_WEDNESDAY"], "start_time_of_day": "00:00", "end_time_of_day": "24:00"}]
    window = ParseDict({"spans": spans, "on_close": "WINDOW_CLOSE_ACTION_PAUSE"}, Window())
    name = client.policies.create_window("wednesdays", window).name
    running = submit("running", 2.0, window=name)
    until(client, running, RUNNING)
    faked.jump(DAY_S)
    until(client, running, PAUSED)
    waiting = submit("waiting", window=name)
    until(client, waiting, WAITING)
    faked.jump(-DAY_S)
    assert [until(client, job, SUCCEEDED).attempt_count for job in (running, waiting)] == [1, 1]


@JUMPS
def test_a_load_of_jobs_ends_once_while_the_clock_jumps_and_the_kernel_is_killed(make_daemon, database, journal, jumps):
    chance = random.Random(jumps)
    faked = make_daemon(*database.flags(), "--log-level", "warning")
    address = f"unix:{faked.state / 'hypersdkd.sock'}"
    load = Load(lambda: address, journal, jumps)
    for jump in range(jumps):
        time.sleep(chance.uniform(0.2, 1.0))
        faked.jump((DAY_S, -DAY_S, -DAY_S, DAY_S)[jump % 4])
        if chance.random() < 0.4:
            time.sleep(chance.uniform(0.0, 0.5))
            faked.kill()
            faked.start(60)
    load.stop()
    with Client(address) as client:
        ended = judge(client, load.acknowledged, journal, exact=True)
        each_ended_once(client)
    print(f"{jumps} jumps, {len(load.acknowledged)} acknowledged, {dict(ended)}")
    assert len(load.acknowledged) > jumps

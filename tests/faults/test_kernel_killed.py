"""kill -9 of the kernel at random points under load (RELIABILITY, row 1): in mid-work, while it starts, while it takes
up what the one before it left. Every acknowledged job ends once, and has its effect once if it succeeds."""

import random
import subprocess
import time

import pytest
from hypersdk.api.schedules.v1.schedules_pb2 import Schedule
from hypersdk.client import Client
from support.daemon import BIN, Daemon
from support.effects import effects, make_plugin
from support.killing import Load, judge

pytestmark = pytest.mark.faults
KILLS = pytest.mark.parametrize("kills", [12, pytest.param(200, marks=[pytest.mark.soak, pytest.mark.timeout(3000)])])


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "effects"


@pytest.fixture
def killed(tmp_path, database):
    """A daemon that may die, on either store."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, *database.flags(), *make_plugin(tmp_path / "plugin"), "--max-runners", "3")
    made.flags += ("--log-level", "warning")
    yield made
    made.close()


def client_of(daemon):
    return Client(f"unix:{daemon.state / 'hypersdkd.sock'}")


def each_second(client, journal):
    """A schedule, the jobs of which are part of the load."""
    schedule = Schedule(cron="@every 1s")
    schedule.job_template.task = "effect-brief"
    schedule.job_template.spec.update({"journal": str(journal)})
    client.schedules.create("each-second", schedule)


def die_while_starting(daemon, after_s):
    """kill -9 so long after exec, whatever it is at then."""
    with (daemon.folder / "hypersdkd.log").open("ab") as log:
        started = subprocess.Popen(
            [BIN / "hypersdkd", "--state-dir", daemon.state, *daemon.flags],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=daemon.environ,
        )  # fmt: skip
        time.sleep(after_s)
        started.kill()
        started.wait(10)


@KILLS
def test_kill_9_of_the_kernel_at_random_points_loses_no_job_and_doubles_no_effect(killed, journal, kills):
    chance = random.Random(kills)
    killed.start(60)
    with client_of(killed) as client:
        each_second(client, journal)
    load = Load(lambda: f"unix:{killed.state / 'hypersdkd.sock'}", journal, kills)
    took_s = 1.0
    for kill in range(kills):
        seen = len(effects(journal))
        time.sleep(chance.uniform(0.0, 1.5) if kill % 3 else chance.uniform(0.0, 0.1))
        if kill % 4 == 1:  # only once work goes on
            deadline = time.monotonic() + 30
            while len(effects(journal)) == seen and time.monotonic() < deadline:
                time.sleep(0.01)
        killed.kill()
        if kill % 3 == 2:
            die_while_starting(killed, chance.uniform(0.0, took_s * 1.2))
        began = time.monotonic()
        killed.start(60)
        took_s = time.monotonic() - began
    load.stop()
    with client_of(killed) as client:
        client.schedules.pause("schedules/each-second")
        ended = judge(client, load.acknowledged, journal, exact=True)
        scheduled = list(client.jobs.list(filter='schedule = "schedules/each-second"', page_size=1000))
        times = [job.scheduled_time.ToNanoseconds() for job in scheduled]
        assert len(times) == len(set(times)) == client.schedules.get("schedules/each-second").counts.runs
    print(f"{kills} kills, {len(load.acknowledged)} acknowledged, {len(scheduled)} scheduled, {dict(ended)}")
    assert len(load.acknowledged) > kills


@KILLS
def test_kill_9_of_runners_and_warm_workers_at_random_ends_every_job_once(killed, journal, kills):
    """A process that is killed between its effect and its journal has had the effect, and so has the next attempt."""
    chance = random.Random(-kills)
    killed.start(60)
    load = Load(lambda: f"unix:{killed.state / 'hypersdkd.sock'}", journal, kills)
    done = 0
    deadline = time.monotonic() + 10 * kills
    while done < kills:
        assert time.monotonic() < deadline, "there was nothing to kill"
        time.sleep(chance.uniform(0.0, 0.4))
        living = killed.runners()
        if living:
            victim = chance.choice(living)
            subprocess.run(["kill", "-9", str(victim)], check=False, stderr=subprocess.DEVNULL)
            done += 1
    load.stop()
    with client_of(killed) as client:
        ended = judge(client, load.acknowledged, journal, exact=False)
        repeated = {name for name, attempt in effects(journal) if attempt > 1}
    extra = sum(effects(journal).values()) - ended["JOB_STATE_SUCCEEDED"]
    print(f"{kills} kills, {len(load.acknowledged)} jobs, {dict(ended)}, {len(repeated)} retried, {extra} extra")
    assert extra <= kills, "a kill may cost the one effect that was not journaled yet"

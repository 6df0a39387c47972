"""Two kernels on one PostgreSQL and one folder of runs, of which the leader is killed, its follower too while it takes
over, and a leader that stood still comes back. Every acknowledged job ends once and has its effect once if it succeeds;
there is one leader in the end (RELIABILITY, rows 1 and 10)."""

import random
import re
import signal
import time

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import Job, JobState
from hypersdk.client import Client
from support.effects import effects, make_plugin
from support.fleet import Fleet
from support.killing import Load, judge

pytestmark = [pytest.mark.faults, pytest.mark.peer]
ROUNDS = pytest.mark.parametrize(
    ("rounds", "longest_s"), [(3, 2.0), pytest.param(40, 8.0, marks=[pytest.mark.soak, pytest.mark.timeout(3000)])]
)
GAINED = re.compile(r'epoch"?[=:] ?(\d+).*leadership_gained|leadership_gained.*epoch"?[=:] ?(\d+)')
TAKEOVER_S = 30.0
"""10 s are promised, of a machine that does nothing else."""


SESSIONS = "SELECT pid, state, wait_event, pg_blocking_pids(pid), left(query, 60) FROM pg_stat_activity"
RETRYING = JobState.JOB_STATE_RETRYING


def address_of(daemon):
    return f"unix:{daemon.state / 'hypersdkd.sock'}"


class Drill:
    """Two kernels, `other(leader)` of which follows, and what befalls them."""

    def __init__(self, fleet, chance, longest_s, journal):
        self.fleet, self.chance, self.longest_s, self.journal = fleet, chance, longest_s, journal

    def other(self, leader):
        return next(daemon for daemon in self.fleet.members if daemon is not leader)

    def epoch(self):
        return self.fleet.rows("SELECT epoch FROM cluster")[0][0]

    def until_led_anew(self, before):
        """Wait until an epoch begins: its leader starts to take up what the one before it left."""
        deadline = time.monotonic() + TAKEOVER_S
        while self.epoch() == before:
            assert time.monotonic() < deadline, ("nobody took over", self.fleet.rows(SESSIONS))
            time.sleep(0.02)

    def kill_both(self, leader):
        """The follower at any moment since its leader died."""
        leader.kill()
        time.sleep(self.chance.uniform(0.0, self.longest_s))
        self.other(leader).kill()

    def kill_both_at_the_turn(self, leader):
        """The follower when it leads since so many milliseconds, and has begun to take up what it found."""
        before = self.epoch()
        leader.kill()
        self.until_led_anew(before)
        time.sleep(self.chance.uniform(0.0, 0.3))
        self.other(leader).kill()

    def stand_still(self, leader):
        """A leader that is replaced while it stands still, and comes back about to write: it has a job's second attempt
        to queue, which its successor has made in the meantime. The third is due 40 s later."""
        before = self.epoch()
        with Client(address_of(leader)) as client:
            name = client.jobs.submit(self.twice_in_half_a_minute(), job_id=f"fenced-{before}").name
            until_failed(client, name, 1)
            leader.process.send_signal(signal.SIGSTOP)
        self.until_led_anew(before)
        said = len(leader.log)
        with Client(address_of(self.other(leader))) as client:
            until_failed(client, name, 2)
            leader.process.send_signal(signal.SIGCONT)
            deadline = time.monotonic() + TAKEOVER_S
            while "leadership_lost" not in leader.log[said:]:
                assert time.monotonic() < deadline, "it goes on as if it led"
                time.sleep(0.02)
            until_work_goes_on(self.journal)
            job = client.jobs.get(name)
            assert (job.state, job.attempt_count) == (RETRYING, 2), "who did not lead any more had it queued"
            client.jobs.cancel(name)

    def twice_in_half_a_minute(self):
        job = Job(task="effect-brief", priority=100)
        job.spec.update({"journal": str(self.journal), "fail": "away"})
        job.retry_policy.initial_delay.FromSeconds(4)
        job.retry_policy.multiplier = 10
        job.retry_policy.max_delay.FromSeconds(600)
        job.retry_policy.max_attempts = 9
        return job

    def restart(self):
        for daemon in self.fleet.members:
            if daemon.process.poll() is not None:
                daemon.start(60)


@pytest.fixture
def fleet(tmp_path, pg_database):
    made = Fleet(tmp_path, pg_database)
    flags = [*make_plugin(tmp_path / "plugin"), "--runs-dir", str(tmp_path / "runs"), "--max-runners", "3"]
    for _ in range(2):
        made.start(*flags)
    yield made
    made.close()


def until_failed(client, name, attempts):
    """Wait until a job's attempt has failed and the next is to come."""
    deadline = time.monotonic() + TAKEOVER_S
    while ((job := client.jobs.get(name)).state, job.attempt_count) != (RETRYING, attempts):
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def until_work_goes_on(journal):
    seen = len(effects(journal))
    deadline = time.monotonic() + TAKEOVER_S
    while len(effects(journal)) <= seen:
        assert time.monotonic() < deadline, "no job has its effect any more"
        time.sleep(0.02)


def leaders(fleet):
    """Who holds the lock, and whom the table says leads."""
    held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = "
    holders = fleet.rows(held + "(SELECT oid FROM pg_database WHERE datname = current_database())")
    return holders, fleet.rows("SELECT k.backend FROM kernels k JOIN cluster c ON k.epoch = c.epoch")


@ROUNDS
def test_kill_9_of_both_kernels_during_a_takeover_loses_no_job_and_doubles_no_effect(
    fleet, tmp_path, rounds, longest_s
):
    journal = tmp_path / "effects"
    chance = random.Random(rounds)
    drill = Drill(fleet, chance, longest_s, journal)
    loads = [
        Load(lambda d=daemon: address_of(d), journal, n, prefix=f"k{n}-") for n, daemon in enumerate(fleet.members)
    ]
    kills = [drill.kill_both, drill.kill_both_at_the_turn]
    for number in range(rounds):
        until_work_goes_on(journal)
        strike = kills[number % 2] if number < 3 else chance.choice([*kills, drill.stand_still])
        strike(fleet.leader(TAKEOVER_S))
        drill.restart()
    until_work_goes_on(journal)
    for load in loads:
        load.stop()
    acknowledged = [name for load in loads for name in load.acknowledged]
    with Client(address_of(drill.other(fleet.leader()))) as client:
        ended = judge(client, acknowledged, journal, exact=True)
    print(f"{rounds} rounds, {len(acknowledged)} acknowledged, {dict(ended)}")
    assert min(len(load.acknowledged) for load in loads) > rounds
    holders, leading = leaders(fleet)
    assert len(leading) == 1
    assert holders == leading
    epochs = [epoch for daemon in fleet.members for epoch in GAINED.findall(daemon.log)]
    assert len(epochs) == len(set(epochs)) > rounds

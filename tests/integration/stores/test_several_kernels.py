"""Several kernels on one PostgreSQL: one leads, all serve, another takes over."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import JobState
from support.postgres import PASSWORD

pytestmark = [pytest.mark.faults, pytest.mark.peer]
MIB = 1 << 20


def convert(client, folder, name, size=MIB, **kw):
    source = folder / f"{name}.raw"
    source.write_bytes(os.urandom(MIB) * (size // MIB))
    spec = {"source_path": str(source), "target_path": str(folder / f"{name}.qcow2"), "format": "qcow2"}
    return client.jobs.create("convert", spec, job_id=name, **kw).name


def until(client, name, *states, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while (job := client.jobs.get(name)).state not in states:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def states_until_the_end(client):
    """Of the first job that ends, from now on or since the log began."""
    states = []
    for change in client.jobs.watch(since_revision=1):
        states.append(change.job.state)
        if change.job.HasField("end_time"):
            return states
    raise AssertionError(states)


QUEUED, RUNNING, PAUSED = JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_RUNNING, JobState.JOB_STATE_PAUSED
SUCCEEDED, CANCELLED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_CANCELLED


def test_two_kernels_on_one_database_have_one_leader_and_both_serve(fleet, connect, tmp_path):
    first, second = fleet.start(), fleet.start()
    leader = fleet.leader()
    follower = connect(second if leader is first else first)
    # Asked of the follower, done by the leader, seen by both.
    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(states_until_the_end, connect(second if leader is first else first))
        name = convert(follower, tmp_path, "a")
        assert watched.result(60)[-1] == SUCCEEDED
    assert until(follower, name, SUCCEEDED).attempt_count == 1
    assert until(connect(leader), name, SUCCEEDED).attempt_count == 1
    assert [j.name for j in follower.jobs.list()] == [name]
    assert follower.system.info().store == "postgresql"


def test_what_is_asked_of_a_running_job_through_a_follower_reaches_its_runner(fleet, connect, tmp_path):
    first, second = fleet.start(), fleet.start()
    follower = connect(second if fleet.leader() is first else first)
    name = convert(follower, tmp_path, "slow", 32 * MIB, bandwidth_limit_bytes=MIB)
    until(follower, name, RUNNING)
    assert follower.jobs.pause(name).state == PAUSED
    assert follower.jobs.resume(name).state == RUNNING
    follower.jobs.cancel(name)
    job = until(follower, name, CANCELLED)
    assert job.attempt_count == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_follower_takes_over_from_a_leader_that_dies_or_hangs(fleet, connect, tmp_path, number):
    first, second = fleet.start(), fleet.start()
    leader = fleet.leader()
    other = second if leader is first else first
    client = connect(other)
    leader.process.send_signal(number)
    lost = time.monotonic()
    members, fleet.members = fleet.members, [other]
    try:
        assert fleet.leader(30) is other
    finally:
        fleet.members = members
    name = convert(client, tmp_path, "after")
    until(client, name, SUCCEEDED)
    took = time.monotonic() - lost
    print(f"takeover and a job: {took:.1f} s")
    if number == signal.SIGSTOP:  # woken, it finds itself a follower, and its late writes were refused
        leader.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 20
        while "leadership_lost" not in leader.log:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        name = convert(connect(leader), tmp_path, "through-the-former-leader")
        assert until(client, name, SUCCEEDED).attempt_count == 1


def test_a_runner_of_a_dead_leader_is_adopted_where_the_runs_directory_is_shared(fleet, connect, tmp_path):
    runs = tmp_path / "runs"
    first = fleet.start("--runs-dir", str(runs))
    second = fleet.start("--runs-dir", str(runs))
    leader = fleet.leader()
    other = second if leader is first else first
    client = connect(leader)
    name = convert(client, tmp_path, "slow", 24 * MIB, bandwidth_limit_bytes=4 * MIB)
    until(client, name, RUNNING)
    leader.kill()
    job = until(connect(other), name, SUCCEEDED)
    assert job.attempt_count == 1


def test_an_attempt_on_another_machine_ends_itself_before_it_is_repeated_here(fleet, connect, tmp_path):
    first, second = (fleet.start("--runner-orphan-s", "3") for _ in range(2))
    leader = fleet.leader()
    other = second if leader is first else first
    name = convert(connect(leader), tmp_path, "slow", 32 * MIB, bandwidth_limit_bytes=MIB)
    until(connect(leader), name, RUNNING)
    deadline = time.monotonic() + 20
    while not leader.runners():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    leader.kill()
    client = connect(other)
    while leader.runners():
        assert client.jobs.get(name).attempt_count == 1, "repeated while the first attempt's runner lives"
        time.sleep(0.1)
    deadline = time.monotonic() + 60
    while (job := client.jobs.get(name)).attempt_count < 2:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    lost = next(iter(client.jobs.attempts(name)))
    assert lost.error.reason == "RUNNER_LOST"
    client.jobs.cancel(name)
    until(client, name, CANCELLED)


def test_the_password_is_in_no_command_line_and_no_log(fleet, connect):
    daemon = fleet.start()
    connect(daemon).system.info()
    assert PASSWORD not in daemon.log
    assert PASSWORD.encode() not in (daemon.state.parent / "hypersdkd.log").read_bytes()
    pid = daemon.process.pid
    with open(f"/proc/{pid}/cmdline", "rb") as command, open(f"/proc/{pid}/environ", "rb") as environ:
        assert PASSWORD.encode() not in command.read() + environ.read()

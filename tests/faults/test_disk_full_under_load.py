"""The kernel's disk fills up or becomes read-only, or another program locks its database, while jobs run and are
submitted: refused with a clear error, nothing acknowledged is lost or doubled, and it goes on by itself afterwards."""

import contextlib
import os
import sqlite3
import subprocess
import time

import grpc
import pytest
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.client import Client
from hypersdk.errors import HyperError
from support.daemon import Daemon
from support.effects import effects, make_plugin
from support.killing import Load, judge

pytestmark = pytest.mark.faults


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "effects"


def address_of(daemon):
    return f"unix:{daemon.state / 'hypersdkd.sock'}"


def refusal(client, load, timeout_s=60.0):
    """The error of the first submission that is refused; they are asked for until then."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            client.jobs.submit(load.job("effect-brief", 0))
        except HyperError as exc:
            return exc
    raise AssertionError("nothing was refused")


def until_more(journal, timeout_s=60.0):
    """Until work goes on."""
    seen, deadline = len(effects(journal)), time.monotonic() + timeout_s
    while len(effects(journal)) <= seen:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_disk_that_fills_up_under_load_costs_no_acknowledged_job_and_doubles_none(tmp_path, journal):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    daemon = Daemon(folder, *make_plugin(tmp_path / "plugin"), "--max-runners", "2")
    daemon.flags += ("--log-level", "error")
    ballast = folder / "ballast"
    try:
        daemon.start(60)
        load = Load(lambda: address_of(daemon), journal, 5)
        with Client(address_of(daemon)) as client:
            for _ in range(3):
                until_more(journal)
                with contextlib.suppress(OSError), ballast.open("wb") as file:
                    while True:
                        file.write(bytes(64 << 10))
                        file.flush()
                assert refusal(client, load).reason == "DISK_FULL"
                assert client.system.info().version  # it still answers
                ballast.unlink()
                until_more(journal)  # nobody told it
            load.stop()
            ended = judge(client, load.acknowledged, journal, exact=False)
        print(dict(ended), len(load.acknowledged))
        assert daemon.stop() == 0
        with contextlib.closing(sqlite3.connect(daemon.state / "state.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        daemon.close()
        subprocess.run(["umount", "--lazy", folder], check=True)


def immutable(files, wanted):
    subprocess.run(["chattr", "+i" if wanted else "-i", *files], check=True, capture_output=True)


def why_not_immutable(folder):
    """Why no file can be made read-only here for those that have it open; empty when it can."""
    probe = folder / "probe"
    with probe.open("wb", buffering=0) as file:
        try:
            immutable([probe], True)
        except (OSError, subprocess.CalledProcessError) as exc:
            return f"chattr +i needs root, e2fsprogs and a file system that knows it: {exc}"
        try:
            file.write(b"x")
        except OSError:
            return ""
        finally:
            immutable([probe], False)
    return "this file system lets immutable files be written by who has them open (ext4 does not)"


def test_a_database_that_becomes_read_only_under_load_refuses_changes_and_loses_and_doubles_no_end(tmp_path, journal):
    # A remount is refused while files are open for writing; for the daemon an immutable file is the same: writes fail,
    # through descriptors that were opened before, too, and reads do not.
    folder = tmp_path / "daemon"
    folder.mkdir()
    if why := why_not_immutable(folder):
        pytest.skip(why)
    daemon = Daemon(folder, *make_plugin(tmp_path / "plugin"), "--max-runners", "2")
    daemon.flags += ("--log-level", "error")
    frozen = [daemon.state / "state.db", daemon.state / "state.db-wal"]
    try:
        daemon.start(60)
        load = Load(lambda: address_of(daemon), journal, 7)
        with Client(address_of(daemon)) as client:
            for number in range(2):
                until_more(journal)
                slow = client.jobs.create("effect", {"journal": str(journal), "work_s": 1.5}, job_id=f"slow{number}")
                while client.jobs.get(slow.name).state != jobs_pb2.JobState.JOB_STATE_RUNNING:
                    time.sleep(0.02)
                immutable(frozen, True)
                refused = refusal(client, load)
                assert (type(refused).__name__, refused.reason) == ("FailedPrecondition", "STORE_READ_ONLY")
                deadline = time.monotonic() + 30
                while (slow.name, 1) not in effects(journal):  # it ends while nothing can be written down
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                assert slow.name in {job.name for job in client.jobs.list(page_size=1000)}
                assert client.jobs.get(slow.name).state == jobs_pb2.JobState.JOB_STATE_RUNNING
                assert refusal(client, load).reason == "STORE_READ_ONLY"
                immutable(frozen, False)
                until_more(journal)  # nobody told it
                assert client.jobs.wait(slow.name, timeout_s=60).attempt_count == 1
            load.stop()
            judge(client, load.acknowledged, journal, exact=True)
        assert daemon.stop() == 0
        with contextlib.closing(sqlite3.connect(daemon.state / "state.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        immutable([file for file in frozen if file.exists()], False)
        daemon.close()


def test_a_database_that_another_program_keeps_locked_refuses_and_goes_on_when_it_lets_go(tmp_path, journal):
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, *make_plugin(tmp_path / "plugin"), "--max-runners", "2")
    daemon.flags += ("--log-level", "error")
    try:
        daemon.start(60)
        load = Load(lambda: address_of(daemon), journal, 6)
        until_more(journal)
        request = jobs_pb2.CreateJobRequest(job=load.job("effect-brief", 0))
        with (
            contextlib.closing(sqlite3.connect(daemon.state / "state.db", isolation_level=None, timeout=30)) as other,
            grpc.insecure_channel(address_of(daemon)) as channel,
            Client(address_of(daemon)) as client,
        ):
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(grpc.RpcError) as refused:
                jobs_pb2_grpc.JobServiceStub(channel).CreateJob(request, timeout=50)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "STORE_BUSY" in str(refused.value.trailing_metadata())
            assert client.system.info().version  # it still answers
            other.execute("ROLLBACK")
            until_more(journal)
            load.stop()
            judge(client, load.acknowledged, journal, exact=True)
        assert daemon.stop() == 0
    finally:
        daemon.close()

"""Exports through a real daemon while things are killed, filled up and started twice."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import JobState
from hypersdk.client import Client
from support.images import MIB, same, scattered

pytestmark = [pytest.mark.faults, pytest.mark.peer]

SUCCEEDED, FAILED = JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED


@pytest.fixture
def lab(daemon, tmp_path):
    """A platform with one disk, a storage, and the daemon's client."""
    return Lab(daemon, tmp_path)


class Lab:
    def __init__(self, daemon, tmp_path):
        self.daemon = daemon
        self.platform, self.target = tmp_path / "platform", tmp_path / "target"
        self.platform.mkdir()
        self.target.mkdir()
        self.image = self.platform / "web01.raw"
        self.sha256 = scattered(self.image, 256 * MIB, 64)
        self.connect()
        self.client.connections.create("lab", "provider/directory", {"path": str(self.platform)})
        self.client.connections.create("target", "storage/local", {"path": str(self.target)})
        (machine,) = self.client.inventory.list_machines("connections/lab")
        self.machine = machine.name

    def connect(self):
        self.client = Client(f"unix:{self.daemon.state / 'hypersdkd.sock'}")

    def export(self, **kw):
        spec = {"machine": self.machine, "target": "connections/target", "format": "qcow2", **kw.pop("spec", {})}
        return self.client.jobs.create("export", spec, **kw).name

    def until_moved(self, name, nbytes):
        deadline = time.monotonic() + 60
        while (job := self.client.jobs.get(name)).progress.bytes_read < nbytes:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def until_checkpoint(self):
        deadline = time.monotonic() + 60
        while not list(self.daemon.state.glob("runs/*/checkpoint.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def visible(self):
        """What a user of the storage sees."""
        return sorted(p.name for p in self.target.rglob("*") if p.is_file() and ".hypersdk-uploads" not in p.parts)

    def leftovers(self):
        return [p for p in self.target.rglob("*") if p.is_file() and ".hypersdk-uploads" in p.parts]

    def check_result(self, name):
        job = self.client.jobs.get(name)
        assert job.state == SUCCEEDED, job.error
        manifest = json.loads((self.target / job.result["manifest"]).read_text())
        (disk,) = manifest["files"]
        assert disk["content"]["sha256"] == self.sha256
        same(self.image, self.target / disk["key"])
        assert self.visible() == ["disk-0.qcow2", "manifest.json"]
        assert self.leftovers() == []
        return job


def test_a_runner_killed_in_mid_transfer_is_retried_from_its_checkpoint(lab):
    name = lab.export(bandwidth_limit_bytes=6 * MIB)
    lab.until_checkpoint()
    assert lab.visible() == []
    (pid,) = lab.daemon.runners()
    os.kill(pid, signal.SIGKILL)
    job = lab.client.jobs.wait(name, timeout_s=120)
    attempts = list(lab.client.jobs.attempts(name))
    assert [a.number for a in attempts] == [1, 2]
    assert attempts[1].resumed
    moved = attempts[1].progress.bytes_read
    assert 0 < moved < 60 * MIB, "the second attempt read everything again"
    assert job.attempt_count == 2
    lab.check_result(name)


def test_a_kernel_killed_in_mid_transfer_adopts_the_runner_and_there_is_one_result(lab):
    name = lab.export(bandwidth_limit_bytes=6 * MIB)
    lab.until_moved(name, 10 * MIB)
    (pid,) = lab.daemon.runners()
    lab.daemon.kill()
    time.sleep(0.5)
    os.kill(pid, 0)
    lab.daemon.start()
    lab.connect()
    assert lab.daemon.runners() == [pid]
    job = lab.client.jobs.wait(name, timeout_s=120)
    assert job.attempt_count == 1
    lab.check_result(name)


def test_kernel_and_runner_killed_together_is_one_retry_and_one_result(lab):
    name = lab.export(bandwidth_limit_bytes=16 * MIB)
    lab.until_moved(name, 24 * MIB)
    lab.daemon.kill()
    for pid in lab.daemon.runners():
        os.kill(pid, signal.SIGKILL)
    lab.daemon.start()
    lab.connect()
    job = lab.client.jobs.wait(name, timeout_s=120)
    assert job.attempt_count == 2
    lab.check_result(name)


def test_a_cancelled_export_leaves_nothing_behind(lab):
    name = lab.export(bandwidth_limit_bytes=16 * MIB)
    lab.until_moved(name, 16 * MIB)
    lab.client.jobs.cancel(name)
    job = lab.client.jobs.wait(name, timeout_s=60)
    assert job.state == JobState.JOB_STATE_CANCELLED
    assert (lab.visible(), lab.leftovers()) == ([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_target_fails_clearly_leaves_nothing_and_works_when_there_is_room(lab):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", lab.target], check=True)
    try:
        name = lab.export(max_attempts=1)
        job = lab.client.jobs.wait(name, timeout_s=60)
        assert job.state == FAILED
        assert job.error.reason == "DISK_FULL"
        assert (lab.visible(), lab.leftovers()) == ([], [])
        subprocess.run(["mount", "-o", "remount,size=512m", lab.target], check=True)
        lab.client.jobs.retry(name)
        lab.client.jobs.wait(name, timeout_s=60)
        lab.check_result(name)
    finally:
        subprocess.run(["umount", lab.target], check=True)


@pytest.mark.parametrize("many", [60, pytest.param(200, marks=pytest.mark.soak)])
def test_many_jobs_submitted_at_once_all_succeed(lab, many):
    small = lab.platform / "small.raw"
    small.write_bytes(b"x" * 4096 + bytes(MIB))

    def submit(index):
        spec = {"source_path": str(small), "target_path": str(lab.target / f"{index}.qcow2"), "format": "qcow2"}
        return lab.client.jobs.create("convert", spec, labels={"lot": "many"}).name

    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(submit, range(many)))
    assert len(set(names)) == many
    for name in names:
        assert lab.client.jobs.wait(name, timeout_s=250).state == SUCCEEDED
    listed = list(lab.client.jobs.list(filter='labels.lot = "many" AND state = SUCCEEDED'))
    assert {job.name for job in listed} == set(names)
    assert len(lab.visible()) == many


def test_a_second_daemon_on_the_same_state_directory_refuses(lab):
    command = [os.path.join(os.path.dirname(sys.executable), "hypersdkd"), "--state-dir", str(lab.daemon.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode != 0
    assert str(lab.daemon.process.pid) in done.stderr
    assert lab.client.system.info().pid == lab.daemon.process.pid


def test_sigterm_drains_leaves_the_runner_and_the_next_daemon_adopts_it(lab):
    name = lab.export(bandwidth_limit_bytes=6 * MIB)
    lab.until_moved(name, 10 * MIB)
    (pid,) = lab.daemon.runners()
    assert lab.daemon.stop() == 0
    os.kill(pid, 0)
    lab.daemon.start()
    lab.connect()
    assert lab.client.jobs.wait(name, timeout_s=120).attempt_count == 1
    lab.check_result(name)

"""A real daemon, the plugin in its host, a real Ray cluster: what an operator does, from connection to result."""

import os
import signal
import socket
import subprocess
import time

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import Job, JobState
from hypersdk.client import Client
from support.daemon import BIN, Daemon
from support.raycluster import PYTHON, ray_cluster

ENDS = {JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED}
MIB = 1 << 20


@pytest.fixture
def cluster(tmp_path):
    with ray_cluster(tmp_path) as made:
        yield made


@pytest.fixture
def daemon(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Daemon(
        tmp_path, "--runner-port", str(port), "--runner-work-dir", str(tmp_path / "node"), "--runner-orphan-s", "5"
    ).start()
    yield made
    made.close()


def client_of(daemon):
    return Client(f"unix:{daemon.state / 'hypersdkd.sock'}")


def until(client, name, *states):
    deadline = time.monotonic() + 90
    while (job := client.jobs.get(name)).state not in (states or ENDS):
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    return job


@pytest.mark.soak
def test_a_conversion_runs_on_the_cluster_through_a_crash_of_the_daemon(cluster, daemon, tmp_path):
    (tmp_path / "a.raw").write_bytes(os.urandom(8 * MIB))
    with client_of(daemon) as client:
        client.connections.create("ray", "executor/ray", {"address": cluster.address, "python": str(PYTHON)})
        spec = [f"source_path={tmp_path / 'a.raw'}", f"target_path={tmp_path / 'a.qcow2'}", "format=qcow2"]
        flags = [word for pair in spec for word in ("--spec", pair)]
        done = subprocess.run(
            [BIN / "hyperctl", "job", "submit", "convert", *flags, "--executor", "ray", "--placement", "site=branch",
             "--id", "there", "--rate-limit", "1MiB", "--detach"],
            env=daemon.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 60
        while client.jobs.get("jobs/there").progress.bytes_read < MIB:
            assert time.monotonic() < deadline, (client.jobs.get("jobs/there"), daemon.log[-3000:])
            time.sleep(0.1)
    assert len(cluster.agents("branch")) == 1
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    daemon.start()
    with client_of(daemon) as client:
        job = until(client, "jobs/there")
        assert job.state == JobState.JOB_STATE_SUCCEEDED, job
        assert job.attempt_count == 1
        assert (tmp_path / "a.qcow2").read_bytes()[:4] == b"QFI\xfb"


def test_a_job_for_an_executor_that_is_not_configured_fails_and_says_what_is_missing(daemon, tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(MIB))
    with client_of(daemon) as client:
        job = Job(task="convert", executor="ray")
        target = str(tmp_path / "b.qcow2")
        job.spec.update({"source_path": str(tmp_path / "a.raw"), "target_path": target, "format": "qcow2"})
        job = until(client, client.jobs.submit(job).name)
        assert job.state == JobState.JOB_STATE_FAILED
        assert "connections/ray" in job.error.message, job.error

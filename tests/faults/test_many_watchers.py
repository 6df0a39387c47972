"""A thousand Watch streams over ten thousand queued jobs, many that begin at once, and one that does not read
(RELIABILITY, rows 15 and 18)."""

import json
import select
import subprocess
import sys
import time

import grpc
import pytest
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.api.queue.v1.queue_pb2 import QUEUE_MODE_DRAINING
from hypersdk.client import Client
from support.daemon import Daemon
from support.effects import make_plugin

pytestmark = pytest.mark.faults
STREAMS, EVENTS = 1000, 5


@pytest.fixture
def crowded(tmp_path, request):
    """A daemon with ten thousand queued jobs, or as many as the parameter says, none of which starts."""
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, *make_plugin(tmp_path / "plugin"))
    daemon.flags += ("--log-level", "warning")
    try:
        daemon.start(60)
        with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as client:
            client.queue.set_mode(QUEUE_MODE_DRAINING)
            each = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="noop-brief"))
            jobs = getattr(request, "param", 10_000)
            for begun in range(0, jobs, 1000):
                client.jobs.submit_many([each] * min(1000, jobs - begun))
            yield daemon, client
    finally:
        daemon.close()


def resident_mib(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as status:
        (line,) = (line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def test_a_thousand_streams_over_ten_thousand_jobs_hear_every_change_within_512_mib(crowded):
    daemon, client = crowded
    running = next(iter(client.jobs.list(page_size=1))).name
    command = [sys.executable, "-m", "tests.support.watchers", f"unix:{daemon.state / 'hypersdkd.sock'}"]
    watchers = subprocess.Popen(
        [*command, str(STREAMS), str(EVENTS), running], stdout=subprocess.PIPE, text=True
    )
    try:
        assert watchers.stdout.readline() == "ready\n"
        for _ in range(EVENTS):
            client.jobs.pause(running)
            client.jobs.resume(running)
        heard = json.loads(watchers.stdout.readline())
    finally:
        watchers.kill()
        watchers.wait()
    assert len(heard["last"]) >= EVENTS
    assert resident_mib(daemon) < 512
    assert client.system.info().version


def test_ten_streams_that_begin_with_ten_thousand_jobs_hold_a_few_of_them_at_a_time(crowded):
    daemon, client = crowded
    before = resident_mib(daemon)
    client.jobs.create("noop-brief", {})
    command = [sys.executable, "-m", "tests.support.watchers", f"unix:{daemon.state / 'hypersdkd.sock'}", "10", "1"]
    watchers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        peak = before
        while watchers.poll() is None and not select.select([watchers.stdout], [], [], 0.05)[0]:
            peak = max(peak, resident_mib(daemon))
        assert watchers.stdout.readline() == "ready\n"
        client.jobs.create("noop-brief", {})
        assert json.loads(watchers.stdout.readline())["last"]
    finally:
        watchers.kill()
        watchers.wait()
    print(f"{before:.0f} MiB before, {peak:.0f} MiB at most")
    assert peak - before < 100  # whole lists of them would be 10 x 30 MiB


@pytest.mark.parametrize(
    ("crowded", "streams", "quantile", "most_s"),
    [(200, 300, 1.0, 5.0), pytest.param(500, 1000, 0.99, 1.0, marks=pytest.mark.soak)],
    indirect=["crowded"], ids=["300", "1000"],
)  # fmt: skip
def test_streams_that_all_begin_with_the_present_end_neither_themselves_nor_the_calls_of_others(
    crowded, streams, quantile, most_s
):
    daemon, client = crowded
    command = [sys.executable, "-m", "tests.support.watchers", f"unix:{daemon.state / 'hypersdkd.sock'}"]
    watchers = subprocess.Popen([*command, str(streams), "1"], stdout=subprocess.PIPE, text=True)
    waits = []
    try:
        while watchers.poll() is None and not select.select([watchers.stdout], [], [], 0.03)[0]:
            began = time.monotonic()
            assert client.system.info().version
            waits.append(time.monotonic() - began)
            assert resident_mib(daemon) < 512
        assert watchers.stdout.readline() == "ready\n"  # every one of them has all jobs
        client.jobs.create("noop-brief", {})
        assert json.loads(watchers.stdout.readline())["last"]
    finally:
        watchers.kill()
        watchers.wait()
    waits.sort()
    print(f"{len(waits)} calls meanwhile, the longest {waits[-3:]} s")
    assert waits[int((len(waits) - 1) * quantile)] < most_s


def test_a_stream_that_is_not_read_is_ended_with_a_code_that_says_where_to_resume(crowded):
    daemon, client = crowded
    with grpc.insecure_channel(f"unix:{daemon.state / 'hypersdkd.sock'}") as channel:
        revision = client.system.info().last_revision
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        lazy = stub.WatchJobs(jobs_pb2.WatchJobsRequest(since_revision=revision, states_only=True))
        each = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="noop-brief", labels={"pad": "x" * 250}))
        heard, ended = [], None
        for _ in range(12):  # what lies in the buffers of both ends, and then more than may wait
            client.jobs.submit_many([each] * 1000)
        assert resident_mib(daemon) < 512
        began = time.monotonic()
        try:
            for change in lazy:
                heard.append(change.revision)
                assert time.monotonic() - began < 120
        except grpc.RpcError as error:
            ended = error
        assert ended is not None
        assert ended.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "SUBSCRIBER_TOO_SLOW" in str(ended.trailing_metadata())
        assert f"since_revision {heard[-1]}" in ended.details()
        again = stub.WatchJobs(jobs_pb2.WatchJobsRequest(since_revision=heard[-1], states_only=True))
        assert next(again).revision > heard[-1]  # nothing in between is lost
        again.cancel()

"""Fan-out: one change of a job, heard by a thousand WatchJobs streams; and a thousand that begin at once."""

from __future__ import annotations

import json
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.queue.v1.queue_pb2 import QUEUE_MODE_DRAINING

from tests.bench.jobs import plugin
from tests.bench.kernel import kernel, smaps
from tests.bench.rows import Row, case, percentile

STREAMS = 1000
EVENTS = 40
APART_S = 0.4
"""Between two changes, so that each is measured alone."""
BURST = 60
PRESENT = 500
"""Jobs that each stream begins with."""


@case("kernel-watch-1000")
def fan_out() -> Iterator[Row]:
    """From CreateJob, whose own answer comes about as late, until the last stream has heard of the job; then a burst,
    in messages a second."""
    name = "kernel-watch-1000"
    with plugin() as paths, kernel(*paths) as (daemon, client, _):
        client.queue.set_mode(QUEUE_MODE_DRAINING)
        command = [sys.executable, "-m", "tests.support.watchers", f"unix:{daemon.state / 'hypersdkd.sock'}"]
        watchers = subprocess.Popen(
            [*command, str(STREAMS), str(EVENTS + BURST)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert watchers.stdout is not None
            assert watchers.stdout.readline() == "ready\n"
            made = []
            for _ in range(EVENTS):
                made.append(time.time())
                client.jobs.create("noop-brief", {})
                time.sleep(APART_S)
            for _ in range(BURST):
                client.jobs.create("noop-brief", {})
            heard = json.loads(watchers.stdout.readline())
        finally:
            watchers.kill()
            watchers.wait()
        waits = [(last - at) * 1000 for at, last in zip(made, heard["last"][:EVENTS], strict=True)]
        yield Row(f"{name}-last-p50", statistics.median(waits), "ms", statistics.median(waits))
        yield Row(f"{name}-last-p99", percentile(waits, 0.99), "ms", percentile(waits, 0.99))
        spent = heard["last"][-1] - heard["first"][EVENTS]
        yield Row(f"{name}-messages", STREAMS * BURST / spent, "messages/s", STREAMS * BURST / spent, better="more")
        assert daemon.process is not None
        resident, private = smaps(daemon.process.pid)
        yield Row(f"{name}-memory", resident, "MiB", private, must=512)


@case("kernel-watch-present-1000")
def present() -> Iterator[Row]:
    """From the opening of the streams until the last has all jobs as they are, and what another client's calls wait
    meanwhile."""
    name = "kernel-watch-present-1000"
    with plugin() as paths, kernel(*paths) as (daemon, client, _):
        client.queue.set_mode(QUEUE_MODE_DRAINING)
        client.jobs.submit_many([jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task="noop-brief"))] * PRESENT)
        command = [sys.executable, "-m", "tests.support.watchers", f"unix:{daemon.state / 'hypersdkd.sock'}"]
        began = time.monotonic()
        watchers = subprocess.Popen([*command, str(STREAMS), "1"], stdout=subprocess.PIPE, text=True)
        waits = []
        try:
            assert watchers.stdout is not None
            while not select.select([watchers.stdout], [], [], 0.03)[0]:
                asked = time.monotonic()
                client.system.info()
                waits.append((time.monotonic() - asked) * 1000)
            assert watchers.stdout.readline() == "ready\n"
            spent = time.monotonic() - began
        finally:
            watchers.kill()
            watchers.wait()
        rate = STREAMS * PRESENT / spent
        yield Row(f"{name}-messages", rate, "messages/s", rate, better="more")
        yield Row(f"{name}-others-p99", percentile(waits, 0.99), "ms", percentile(waits, 0.99), must=1000)
        assert daemon.process is not None
        resident, private = smaps(daemon.process.pid)
        yield Row(f"{name}-memory", resident, "MiB", private, must=512)

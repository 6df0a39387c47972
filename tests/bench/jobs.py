"""Cases of jobs by the thousand: batches and no-op jobs against Procrastinate on the same PostgreSQL, and how long a
job that is due waits for its start."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.api.queue.v1.queue_pb2 import QUEUE_MODE_DRAINING, QUEUE_MODE_OPEN
from hypersdk.client import Client

from tests.bench.kernel import kernel, load
from tests.bench.rows import Row, case, percentile, ratio
from tests.support import postgres
from tests.support.daemon import Daemon
from tests.support.effects import make_plugin

_ROUNDS = 3
_SECONDS = 3.0
_JOBS = 4000
"""Of a round of no-op jobs."""
_CONCURRENCY = 1
"""Of Procrastinate's worker: its best here (368 jobs/s; 307 with 8, 190 with 24)."""


@contextmanager
def plugin() -> Iterator[list[str]]:
    """Flags for a daemon that knows the tasks of support.effects."""
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name:
        yield make_plugin(Path(name) / "plugin")


@contextmanager
def on_postgres(server: postgres.Postgres, *flags: str) -> Iterator[tuple[Daemon, Client]]:
    """A daemon on a database of its own, with the no-op tasks."""
    url = server.url(server.migrated())
    where = ("--database", url, "--database-password-file", str(server.password_file))
    with plugin() as paths, kernel(*where, *paths, *flags) as (daemon, client, _):
        yield daemon, client


def peer(server: postgres.Postgres, what: str, first: object, second: object) -> float:
    """What Procrastinate does a second, in a database of its own."""
    command = [sys.executable, "-m", "tests.bench.procrastinate_peer", server.url(server.create()), what]
    done = subprocess.run(
        [*command, str(first), str(second)], input=postgres.PASSWORD, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


@case("kernel-batch")
def batch() -> Iterator[Row]:
    """BatchCreateJobs over 8 connections, nothing running, against defers over 8 connections."""
    ours, singly, in_batches = [], [], []
    with postgres.running() as server, on_postgres(server) as (daemon, client):
        client.queue.set_mode(QUEUE_MODE_DRAINING)
        for _ in range(_ROUNDS):
            ours.append(load(f"unix:{daemon.state / 'hypersdkd.sock'}", "batch", 8)["rate"])
            singly.append(peer(server, "defer", 8, _SECONDS))
            in_batches.append(peer(server, "batch", 8, _SECONDS))
    mine = statistics.median(ours)
    yield ratio("kernel-batch", mine, statistics.median(singly), "jobs/s, Procrastinate's defers", 3.0, better="more")
    theirs = statistics.median(in_batches)
    yield ratio("kernel-batch-of-batches", mine, theirs, "jobs/s, Procrastinate's batch_defer", better="more")


def fill(client: Client, count: int, task: str = "noop-brief") -> None:
    """The queue, drained, with so many jobs."""
    each = jobs_pb2.CreateJobRequest(job=jobs_pb2.Job(task=task))
    for _ in range(0, count, 500):
        client.jobs.submit_many([each] * 500)


def until_empty(client: Client, ended: int) -> None:
    while client.system.info().job_counts["succeeded"] < ended:
        time.sleep(0.02)


@case("kernel-noop")
def noop() -> Iterator[Row]:
    """No-op jobs, the queue filled before, until the last is SUCCEEDED in the store."""
    ours, theirs = [], []
    with postgres.running() as server, on_postgres(server) as (_, client):
        for round_ in range(_ROUNDS):
            client.queue.set_mode(QUEUE_MODE_DRAINING)
            fill(client, _JOBS)
            start = time.perf_counter()
            client.queue.set_mode(QUEUE_MODE_OPEN)
            until_empty(client, (round_ + 1) * _JOBS)
            ours.append(_JOBS / (time.perf_counter() - start))
            theirs.append(peer(server, "work", _JOBS // 4, _CONCURRENCY))
    mine, worker = statistics.median(ours), statistics.median(theirs)
    yield ratio("kernel-noop", mine, worker, "jobs/s, Procrastinate's worker", 1.5, better="more")


@case("kernel-dispatch-latency")
def latency() -> Iterator[Row]:
    """From the time at which a job may start to the start of its attempt, as the store has them."""
    with plugin() as paths, kernel(*paths) as (_, client, folder):
        for task, count, apart_s in (("noop-brief", 300, 0.02), ("effect", 40, 0.2)):
            spec = {"journal": str(folder / "effects")} if task == "effect" else {}
            waits = delays(client, task, spec, count, apart_s)
            for share in (0.5, 0.99):
                value = percentile(waits, share) * 1000
                yield Row(f"kernel-dispatch-latency-{task}-p{share * 100:g}", value, "ms", value)


def delays(client: Client, task: str, spec: dict[str, str], count: int, apart_s: float) -> list[float]:
    """Jobs that are due one after the other, so that none waits for room."""
    first = time.time() + 2.0
    names = []
    for index in range(count):
        job = jobs_pb2.Job(task=task)
        job.spec.update(spec)
        job.earliest_start_time.FromNanoseconds(int((first + index * apart_s) * 1e9))
        names.append(client.jobs.submit(job).name)
    jobs = [client.jobs.wait(name, timeout_s=60) for name in names]
    return [(j.start_time.ToNanoseconds() - j.earliest_start_time.ToNanoseconds()) / 1e9 for j in jobs]

"""Cases of a store that holds 1,000, 10,000 and 100,000 jobs, half of them queued: p99 of what people and clients ask
of it, how long a brief job waits for its start, the kernel's start and its memory."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.client import Client
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.store.sqlite import Sqlite

from tests.bench.jobs import plugin
from tests.bench.kernel import busy, smaps
from tests.bench.rows import Row, case, percentile, seconds
from tests.support.daemon import Daemon
from tests.support.filling import RARE, fill, names

_CALLS = 100
_FILTERS = {
    "state": "state = SUCCEEDED",
    "task": "task = check",
    "group": 'group = "jobGroups/g7"',
    "label": f"labels.lot = {RARE}",
    "label-common": "labels.lot = common",
}


def asked(client: Client, count: int) -> Iterator[tuple[str, list[float]]]:
    """What was asked, and the seconds of each call."""
    queued, ended = list(names(count, queued=True)), list(names(count, queued=False))

    def times(call: Callable[[str], object], of: list[str]) -> list[float]:
        return [seconds(lambda n=n: call(n)) for n in itertools.islice(itertools.cycle(of), _CALLS)]

    yield "get", times(client.jobs.get, ended)
    yield "explain", times(client.jobs.explain, queued)
    yield "list", times(lambda _: first_page(client, ""), queued)
    for name, text in _FILTERS.items():
        yield f"filter-{name}", times(lambda _, text=text: first_page(client, text), queued)
    yield "dispatch", [dispatched(client) for _ in range(_CALLS)]


def first_page(client: Client, text: str) -> list[jobs_pb2.Job]:
    return list(itertools.islice(client.jobs.list(filter=text, page_size=50), 50))


def dispatched(client: Client) -> float:
    """From the submission of a brief job to the start of its attempt, as the store has them."""
    job = client.jobs.wait(client.jobs.submit(jobs_pb2.Job(task="noop-brief")).name, timeout_s=60)
    return (job.start_time.ToNanoseconds() - job.create_time.ToNanoseconds()) / 1e9


def scale(count: int) -> Iterator[Row]:
    group = f"kernel-scale-{count}"
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name, plugin() as paths:
        daemon = Daemon(Path(name), "--log-level", "warning", "--max-runners", "1", *paths)
        address = f"unix:{daemon.state / 'hypersdkd.sock'}"
        try:
            daemon.start()
            with Client(address) as client:
                busy(client, Path(name))  # takes the only runner's place, now and after the next start
            daemon.stop()
            asyncio.run(fill(Sqlite(daemon.state / "state.db"), SystemClock(), count))
            began = time.perf_counter()
            daemon.start(60)
            with Client(address) as client:
                client.jobs.explain("jobs/s1")
                start_s = time.perf_counter() - began
                for what, spent in asked(client, count):
                    value = percentile(spent, 0.99) * 1000
                    yield Row(f"{group}-{what}", value, "ms p99", percentile(spent, 0.5) * 1000)
            assert daemon.process is not None
            resident, private = smaps(daemon.process.pid)
            yield Row(f"{group}-start", start_s, "s", start_s)
            yield Row(f"{group}-memory", resident, "MiB", private, must=512)
        finally:
            daemon.close()


@case("kernel-scale-1000")
def scale_1000() -> Iterator[Row]:
    yield from scale(1000)


@case("kernel-scale-10000")
def scale_10000() -> Iterator[Row]:
    yield from scale(10_000)


@case("kernel-scale-100000")
def scale_100000() -> Iterator[Row]:
    yield from scale(100_000)

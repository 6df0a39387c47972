"""Cases of the clock loop: what 10,000 schedules cost a daemon that has nothing to do, and how fast due ones become
jobs."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.schedule import Schedule, Status, advanced
from hypersdk_kernel.model.timing import Timing
from hypersdk_kernel.store import schedules as rows
from hypersdk_kernel.store.engine import Store, Tx

from tests.bench.kernel import smaps
from tests.bench.rows import Row, case
from tests.support.daemon import Daemon
from tests.support.scheduling import Timetable

COUNT = 10_000
DUE = 1_000
_IDLE_S = 65.0
"""The loop looks at the clock every 30 s: two of those."""


def _schedule(number: int, now: float) -> Schedule:
    """Once a year, so that none is due while we measure."""
    timing = Timing(cron=f"{number % 60} {number % 24} 1 1 *", time_zone="Europe/Berlin")
    made = Schedule(
        f"s{number}", f"uid-{number}", "local", timing, {"task": "noop", "spec": {"n": "${run_number}"}},
        Status(cursor=now), now, now, labels={"bench": "yes"},
    )  # fmt: skip
    return advanced(made, now)


async def _fill(path: Path, count: int, now: float) -> None:
    store = await Store.open(path, ManualClock(now))

    def add(tx: Tx) -> None:
        for number in range(count):
            rows.add(tx.conn, replace(_schedule(number, now), revision=tx.new_revision()))

    await store.write(add)
    await store.close()


@contextmanager
def _daemon(count: int) -> Iterator[tuple[Daemon, float]]:
    """A daemon with so many schedules, and the seconds that its start took."""
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name:
        daemon = Daemon(Path(name), "--log-level", "warning")
        try:
            daemon.start()
            daemon.stop()
            if count:
                asyncio.run(_fill(daemon.state / "state.db", count, time.time()))
            began = time.perf_counter()
            daemon.start()
            yield daemon, time.perf_counter() - began
        finally:
            daemon.close()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _idle(count: int) -> tuple[float, float, float]:
    """Start seconds, private MiB, and milliseconds of CPU a second while nothing happens."""
    with _daemon(count) as (daemon, start_s):
        assert daemon.process is not None
        time.sleep(5)
        before = _cpu_s(daemon.process.pid)
        time.sleep(_IDLE_S)
        spent = _cpu_s(daemon.process.pid) - before
        return start_s, smaps(daemon.process.pid)[1], spent / _IDLE_S * 1000


async def _fired() -> float:
    """Jobs a second when DUE schedules are due in the same second; the jobs themselves run nowhere."""
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name:
        clock = ManualClock()
        path = Path(name) / "state.db"
        await _fill(path, DUE, clock.now())
        store = await Store.open(path, clock)
        table = Timetable(store, clock)
        await table.scheduler.load()
        clock.advance(370 * 86400)
        began = time.perf_counter()
        await table.settle()
        took = time.perf_counter() - began
        assert len(await table.jobs.all()) == DUE
        await table.scheduler.stop()
        await store.close()
        return DUE / took


@case("kernel-scheduler-10000")
def scheduler() -> Iterator[Row]:
    name = "kernel-scheduler-10000"
    none, many = _idle(0), _idle(COUNT)
    peer = "the same daemon without schedules"
    yield Row(f"{name}-idle-cpu", many[2], "ms/s", many[2], none[2], peer)
    yield Row(f"{name}-start", many[0], "s", many[0], none[0], peer)
    yield Row(f"{name}-memory", many[1] - none[1], "MiB", many[1], none[1], peer)
    rate = asyncio.run(_fired())
    yield Row(f"{name}-fire", rate, "jobs/s", rate, better="more")

"""Cases of the store alone, without gRPC: what one durable change costs, on each database, alone and in groups."""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hypersdk_kernel.engine.transitions import announce
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store import jobs
from hypersdk_kernel.store.backend import Backend
from hypersdk_kernel.store.engine import Store, Tx
from hypersdk_kernel.store.postgresql import Postgresql
from hypersdk_kernel.store.sqlite import Sqlite

from tests.bench.rows import Row, case
from tests.support import postgres

_SECONDS = 3.0
_SPEC = {"source_path": "/nowhere/a.raw", "target_path": "/nowhere/b.qcow2", "format": "qcow2"}


def adding(now: float) -> tuple[str, Callable[[Tx], Job]]:
    """As a submission does: look whether the id is free, add the job and its event."""
    name = f"j-{uuid.uuid4()}"
    job = Job(name, str(uuid.uuid4()), "convert", _SPEC, JobState.QUEUED, now, now)

    def fn(tx: Tx) -> Job:
        assert not jobs.taken(tx, name)
        made = replace(job, revision=tx.new_revision())
        jobs.add(tx, made, ())
        announce(tx, made, "job.created", "bench")
        return made

    return name, fn


async def measured(backend: Backend, writers: int) -> tuple[float, float]:
    """Changes a second, and milliseconds of this process's CPU for each."""
    clock = SystemClock()
    store = await Store.open(backend, clock)
    count = 0

    async def write(until: float) -> None:
        nonlocal count
        while time.perf_counter() < until:
            name, fn = adding(clock.now())
            await store.write(fn, keys=jobs.keys(name))
            count += 1

    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write(start + _SECONDS) for _ in range(writers)))
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    await store.close()
    return count / spent, cpu / count * 1000


def rows(name: str, backend: Callable[[], Backend]) -> Iterator[Row]:
    for writers in (1, 16, 256):
        rate, cpu = asyncio.run(measured(backend(), writers))
        yield Row(f"{name}-{writers}", rate, "changes/s", rate, better="more")
        yield Row(f"{name}-{writers}-cpu", cpu, "ms", cpu)


@case("kernel-store-sqlite")
def sqlite() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as folder:
        yield from rows("kernel-store-sqlite", lambda: Sqlite(Path(folder) / "state.db"))


@case("kernel-store-postgresql")
def postgresql() -> Iterator[Row]:
    why = postgres.missing()
    assert not why, why
    with postgres.running() as server:
        name = server.create()
        yield from rows("kernel-store-postgresql", lambda: Postgresql(server.url(name), postgres.PASSWORD))

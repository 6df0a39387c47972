"""Procrastinate, the peer of the cases of batches and no-op jobs, in a process of its own.

    python -m tests.bench.procrastinate_peer CONNINFO defer CONNECTIONS SECONDS    jobs deferred one by one
    python -m tests.bench.procrastinate_peer CONNINFO batch CONNECTIONS SECONDS    250 by each call of batch_defer
    python -m tests.bench.procrastinate_peer CONNINFO work COUNT CONCURRENCY       a worker, its queue filled before

The password is read from standard input. Prints jobs per second.
"""

from __future__ import annotations

import asyncio
import sys
import time

import procrastinate

_BATCH = 250


def made(conninfo: str, password: str, connections: int) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(
        conninfo=conninfo, kwargs={"password": password}, min_size=connections, max_size=connections
    )
    app = procrastinate.App(connector=connector)

    @app.task(name="noop")
    async def noop(n: int) -> None:
        """Does nothing."""

    return app


async def deferred(app: procrastinate.App, connections: int, seconds: float, batch: int) -> float:
    task = app.tasks["noop"]
    count = 0

    async def caller(until: float) -> None:
        nonlocal count
        while time.perf_counter() < until:
            if batch:
                await task.batch_defer_async(*({"n": 1} for _ in range(batch)))
            else:
                await task.defer_async(n=1)
            count += batch or 1

    await asyncio.gather(*(caller(time.perf_counter() + 0.3) for _ in range(connections)))
    count, start = 0, time.perf_counter()
    await asyncio.gather(*(caller(start + seconds) for _ in range(connections)))
    return count / (time.perf_counter() - start)


async def worked(app: procrastinate.App, count: int, concurrency: int) -> float:
    for _ in range(0, count, _BATCH):
        await app.tasks["noop"].batch_defer_async(*({"n": 1} for _ in range(_BATCH)))
    start = time.perf_counter()
    await app.run_worker_async(wait=False, concurrency=concurrency, install_signal_handlers=False)
    return count / (time.perf_counter() - start)


async def main(conninfo: str, what: str, first: str, second: str) -> None:
    connections = int(second if what == "work" else first)
    app = made(conninfo, sys.stdin.readline().strip(), connections)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        if what == "work":
            rate = await worked(app, int(first), int(second))
        else:
            rate = await deferred(app, connections, float(second), _BATCH if what == "batch" else 0)
    print(rate)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))

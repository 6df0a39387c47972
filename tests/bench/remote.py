"""What 10,000 remote runners would cost a kernel: a simulation, by scaling what some hundred real connections cost.

The listener, TLS, the attempts and the mirrors are the real ones, in this process; agents are stood in for by another
one (remoteload), which says on each connection what an agent says: progress and its journal records at the pace that
the kernel asks for (10 s with 10,000; also measured: 1 s), a checkpoint of 2 KiB every 30 s, answers to pings. The
executor, the store and the jobs' ends are not in it. CPU time of this process alone, divided by runners and seconds
and multiplied by 10,000, says how many cores the loop would need; it has one. Memory: private bytes before and after.
What does not scale with a straight line is not in the figures.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from hypersdk_kernel.engine.executors import OrderStatus, Placement
from hypersdk_kernel.engine.remoterunner import RemoteSettings
from hypersdk_kernel.engine.remotes import Remotes
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.security.attempts import AttemptAuthority
from hypersdk_kernel.security.tls import ensure_tls

from tests.bench.kernel import smaps
from tests.bench.rows import Row, case

CONNECTIONS = 300
SECONDS = 30
SCALED = 10_000


class Nobody:
    """An executor that is never asked about an attempt that is connected."""

    async def status(self, _executor: str, _reference: str) -> OrderStatus:
        return OrderStatus(Placement.RUNNING)

    submit = reattach = status

    async def cancel(self, _executor: str, _reference: str) -> None:
        """There is nothing to cancel."""


class Load:
    """So many attempts under one listener, and what they cost."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clock = SystemClock()
        self.authority = AttemptAuthority(folder, ensure_tls(folder, set(), clock.now()))
        self.remotes = Remotes(self.authority, Nobody(), clock, RemoteSettings())  # type: ignore[arg-type]
        self.clock = clock

    def attempt(self, number: int) -> tuple[asyncio.Task[Any], dict[str, str]]:
        uid = str(uuid.UUID(int=number + 1))
        now = self.clock.now()
        job = Job(f"j{number}", uid, "probe", {}, JobState.RUNNING, now, now, executor="nobody")
        rundir = RunDir(self.folder / "runs", uid)
        rundir.prepare(1)

        async def no_spec() -> dict[str, Any]:
            return {}

        runner = self.remotes.runner(job, 1, rundir, no_spec, lambda _progress: None)
        runner.mirror.enrol()
        made = self.authority.issue((uid, 1), now)
        file = self.folder / f"{number}.pem"
        file.write_text(made.certificate + made.key)
        return asyncio.create_task(runner.outcome()), {"file": str(file)}


async def _measure(pace_s: int) -> dict[str, float]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name:
        load = Load(Path(name))
        address = await load.remotes.start("127.0.0.1", 0)
        memory = smaps(os.getpid())[1]
        made = [load.attempt(number) for number in range(CONNECTIONS)]
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.remoteload", stdin=-1, stdout=-1, limit=1 << 20
        )
        assert child.stdin is not None
        assert child.stdout is not None
        told: dict[str, Any] = {"address": address, "ca": load.authority.ca_pem, "identities": [i for _, i in made]}
        told |= {"seconds": SECONDS, "pace_s": pace_s}
        out: dict[str, float] = {}

        async def step(line: str, wanted: bytes) -> tuple[float, float]:
            assert child.stdin is not None
            assert child.stdout is not None
            began, cpu = time.perf_counter(), time.process_time()
            child.stdin.write(line.encode() + b"\n")
            assert (await child.stdout.readline()).strip() == wanted
            return time.perf_counter() - began, time.process_time() - cpu

        _, cpu = await step(json.dumps(told), b"connected")
        out["connect_ms"] = cpu / CONNECTIONS * 1000
        out["memory_kib"] = (smaps(os.getpid())[1] - memory) / CONNECTIONS * 1024
        wall, cpu = await step("", b"worked")
        out["core_share"] = cpu / wall / CONNECTIONS
        wall, _ = await step("", b"finished")
        out["finished_per_s"] = CONNECTIONS / wall
        await child.wait()
        await asyncio.gather(*(task for task, _ in made))
        await load.remotes.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return out


@case("remote-runners")
def remote_runners() -> Iterator[Row]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    chatty, got = asyncio.run(_measure(1)), asyncio.run(_measure(10))
    yield Row("remote-runners-cores-for-10000", got["core_share"] * SCALED, "cores")
    yield Row("remote-runners-cores-at-pace-1s", chatty["core_share"] * SCALED, "cores")
    yield Row("remote-runners-memory-for-10000", chatty["memory_kib"] * SCALED / 1024, "MiB")
    yield Row("remote-runners-connect", got["connect_ms"], "ms of CPU each")
    yield Row("remote-runners-finished", got["finished_per_s"], "synced outcomes/s", better="more")

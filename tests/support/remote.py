"""An executor that starts agents on this machine, in this process, with whatever a test wants to go wrong; and a TCP
proxy between agents and kernel that can be cut, slowed down, and asked what went through."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from hypersdk.plugin.manifest import Manifest
from hypersdk_kernel.engine.executors import OrderStatus, Placement
from hypersdk_kernel.engine.remoterunner import RemoteSettings
from hypersdk_kernel.engine.remotes import Remotes
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.security.attempts import AttemptAuthority
from hypersdk_kernel.security.tls import ensure_tls


class LocalExecutor:
    """As engine.executors.Executors, for any executor. It outlives kernels, as an engine does."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.agents: dict[str, subprocess.Popen] = {}
        self.orders: dict[str, str] = {}
        self.placements: dict[str, dict[str, str]] = {}
        self.hold = False  # nothing has room
        self.silent = False  # the node is gone: nobody knows
        self.away: Exception | None = None
        self.submitted: list[str] = []

    async def submit(self, executor, reference, agent, placement):
        if self.away is not None:
            raise self.away
        self.submitted.append(reference)
        if reference not in self.orders:
            self.orders[reference], self.placements[reference] = agent, placement
            if not self.hold:
                self.start(reference)
        return await self.status(executor, reference)

    def start(self, reference, agent=None):
        with open(self.folder / f"agent-{reference}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "hypersdk.runner.remote"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        process.stdin.write((agent or self.orders[reference]).encode() + b"\n")
        process.stdin.flush()
        self.agents[reference] = process

    async def status(self, executor, reference):
        if self.away is not None:
            raise self.away
        if self.silent:
            return OrderStatus(Placement.LOST, "node-1", "the node is gone")
        process = self.agents.get(reference)
        if process is None:
            return OrderStatus(Placement.PENDING if reference in self.orders else Placement.UNKNOWN)
        return OrderStatus(Placement.RUNNING if process.poll() is None else Placement.ENDED, "node-1")

    reattach = status

    async def cancel(self, executor, reference):
        process = self.agents.get(reference)
        self.orders.setdefault(reference, "")
        if process is not None and not self.silent:
            process.stdin.close()
            process.kill()
            process.wait()

    def close(self):
        for process in self.agents.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not process.stdin.closed:
                process.stdin.close()

    def said(self, reference):
        return (self.folder / f"agent-{reference}.log").read_text()


class Link:
    """A TCP proxy. `cut()` breaks what is open and refuses what comes; `mend()` lets pass again. `delay_s` before each
    piece; `seen` is every byte that went through."""

    def __init__(self):
        self.target: tuple[str, int] | None = None
        self.delay_s = 0.0
        self.piece = 1 << 16
        self.up = True
        self.seen = bytearray()
        self._tasks = set()
        self._writers = set()

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def _serve(self, reader, writer):
        if not self.up or self.target is None:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    async def _pipe(self, reader, writer):
        try:
            while data := await reader.read(self.piece):
                self.seen += data
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut
        finally:
            writer.close()

    def cut(self):
        self.up = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self):
        self.up = True

    def close(self):
        self.cut()
        self._server.close()


def settings_of(tmp_path, **changes) -> RemoteSettings:
    wanted = {"orphan_s": 3, "lost_after_s": 10.0, "place_s": 30.0, "poll_s": 0.1, "work_dir": str(tmp_path / "node")}
    return RemoteSettings(**{**wanted, **changes})


async def attach_remotes(kernel, executor, link, **changes) -> Remotes:
    """To be awaited before the engine starts."""
    state = kernel.tmp_path / "state"
    material = ensure_tls(state, set(), kernel.clock.now())
    remotes = Remotes(
        AttemptAuthority(state, material), executor, kernel.clock, settings_of(kernel.tmp_path, **changes), link.address
    )
    host, _, port = (await remotes.start("127.0.0.1", 0)).rpartition(":")
    link.target = (host, int(port))
    kernel.dispatcher.placing.remotes = remotes
    return remotes


MANIFEST = """{"manifest_version": 1, "name": "fake", "api_version": "1.0", "components": {"executor/fake": {}}}"""


def with_executor(registry: Registry) -> Registry:
    """And `executor/fake`, which no host serves: tests answer in its place."""
    generation = Generation(
        "fake", 1, "fake", "1.0", "cd" * 32, "installed", GenerationState.ACTIVE,
        {"executor/fake": "fake:Fake"}, Manifest.parse(MANIFEST), (),
    )  # fmt: skip
    return Registry([*registry.plugins(), Plugin("fake", "fake", "", (generation,))])


class Remote:
    """A kernel with an executor and a link, and what tests do with them."""

    def __init__(self, kernel, tmp_path, executor):
        self.kernel, self.executor, self.changes = kernel, executor, {}
        self.patience_s = 30.0
        self.node = tmp_path / "node"

    async def open(self):
        self.link = await Link().start()

        async def prepare(kernel):
            self.remotes = await attach_remotes(kernel, self.executor, self.link, **self.changes)

        self.kernel.prepare = prepare
        await self.restart()
        return self

    async def stop(self):
        await self.kernel.stop()
        if hasattr(self, "remotes"):
            await self.remotes.stop()

    async def restart(self):
        await self.stop()
        await self.kernel.start()

    async def submit(self, name="j", placement=None, **spec):
        new = replace(self.kernel.new(name, **spec), executor="fake", placement=placement or {})
        return await self.kernel.jobs.create(new, actor="test")

    async def runs(self, name="j", step=1):
        """Until it has made some steps."""
        async with asyncio.timeout(self.patience_s):
            while True:
                runner = self.kernel.dispatcher.runner((await self.kernel.jobs.get(name)).id)
                if runner is not None and runner.progress is not None and runner.progress.bytes_done >= step:
                    return runner
                await asyncio.sleep(0.01)

    def runner_pid(self, uid, number=1):
        """The process of the runner itself, from the journal on its node."""
        for line in (self.node / uid / "attempts" / str(number) / "journal.jsonl").read_text().splitlines():
            if (record := json.loads(line))["type"] == "started":
                return record["pid"]
        raise AssertionError("it has not started")

    def mirrored(self, uid, number=1):
        path = self.kernel.tmp_path / "runs" / uid / "attempts" / str(number)
        lines = (path / "journal.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def order_of(executor: LocalExecutor, reference: str) -> dict:
    return json.loads(executor.orders[reference])

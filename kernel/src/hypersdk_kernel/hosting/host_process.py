"""One host process: from its start to its end, once.

Not here: starting another in its place, counting, retrying (host).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import DeadlineExceeded, HyperError

from hypersdk_kernel.hosting.backoff import BackoffPolicy
from hypersdk_kernel.hosting.childlog import ChildLog
from hypersdk_kernel.hosting.confinement import Sandbox, declares, grants, told, verified
from hypersdk_kernel.hosting.foreign import HostCommands
from hypersdk_kernel.hosting.gentle import give_way
from hypersdk_kernel.hosting.handshake import handshake, not_started
from hypersdk_kernel.hosting.lanes import Lanes
from hypersdk_kernel.hosting.peer import Peer
from hypersdk_kernel.hosting.process import Child, spawn
from hypersdk_kernel.hosting.watchdog import Bounds, Effective, Watchdog, end_descendants, limit, resident_bytes
from hypersdk_kernel.model.plugin import Confinement, Generation

LAST_ANSWERS_S = 0.1
"""After a child's end its last answers are still read; a grandchild that holds the socket open may not keep us
longer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """How hosts are run. Seconds.

    command         what to start for a Python plugin; `--fd N` is appended. -B: a plugin's folder in the store is never
                    written to
    commands        what to start for others
    start_s         from start to the end of the handshake
    heartbeat_s     between pings; one that is not answered within `heartbeat_timeout_s` means that the host hangs
    abandoned_s     a call that goes on for so long after its caller has gone means that it hangs: the host is ended,
                    for it would keep a lane or a thread for ever
    idle_s          a host without calls for so long is stopped
    stop_s          between `shutdown` and SIGKILL
    max_in_flight   calls that a host has been sent or that wait for their turn; more are refused
    gentle          it starts with less of the processors than we have (gentle.py), until somebody makes it our equal
    attempts        how often an idempotent call is tried on hosts that die under it
    watch_s         between looks at its memory, processor and programs
    """

    command: Sequence[str | Path] = (sys.executable, "-I", "-B", "-m", "hypersdk.host")
    commands: HostCommands = field(default_factory=HostCommands)
    start_s: float = 10.0
    heartbeat_s: float = 5.0
    heartbeat_timeout_s: float = 5.0
    abandoned_s: float = 120.0
    idle_s: float = 300.0
    stop_s: float = 5.0
    max_in_flight: int = 256
    attempts: int = 3
    gentle: bool = False
    log_lines_per_second: int = 100
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)
    sandbox: Sandbox = field(default_factory=Sandbox)
    bounds: Bounds = field(default_factory=Bounds)
    watch_s: float = 1.0


class HostProcess:
    """A running host. Its life: `start` (started, shaken hands with), serving; then either `stop`, or an end that
    nobody asked for, at which `on_end` is called. For callers it has ended as soon as its connection has.

    last_used  loop time, set by whoever uses it; after `idle_s` without calls `on_idle` is called,
               which answers whether the host is stopped
    """

    def __init__(
        self,
        generation: Generation,
        policy: HostPolicy,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        on_end: Callable[[HostProcess], None],
        on_idle: Callable[[HostProcess], bool],
        command: Sequence[str | Path],
        pass_fds: Sequence[int] = (),
        paths: frozenset[str] = frozenset(),
    ) -> None:
        manifest = generation.manifest
        assert manifest is not None, "only generations with a manifest get a host"
        confined = policy.sandbox.enforced and declares(generation)
        self.limits = Effective.of(manifest.limits, policy.bounds, confined=confined)
        self.grants = grants(generation, policy.sandbox, paths, self.limits.processes)
        self.confinement: tuple[Confinement, ...] = ()
        self.generation = generation
        self._policy = policy
        self._on_end = on_end
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self.last_used = self._loop.time()
        self._log = ChildLog(generation.name, redact, policy.log_lines_per_second)
        self._killed_for = ""
        self._exit = "closed its connection"
        self.in_flight = 0
        self.lanes = Lanes()
        self._serving = False
        self._child, self.peer = self._launch(command, pass_fds)
        limit(self._child.pid, self.limits)
        self._reaper = self._loop.create_task(self._reap())
        self._heart: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self.peer.closed.add_done_callback(self._on_closed)

    @classmethod
    async def start(
        cls,
        generation: Generation,
        policy: HostPolicy,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        on_end: Callable[[HostProcess], None],
        on_idle: Callable[[HostProcess], bool],
        pass_fds: Sequence[int] = (),
        paths: frozenset[str] = frozenset(),
    ) -> HostProcess:
        """A host that is ready for calls and has `pass_fds`, under their numbers here. `paths`: those of its
        connections' configs that it is granted, if it is granted any. Raises HandshakeFailed, Unavailable
        (PROCESS_START_FAILED)."""
        command: Sequence[str | Path] = policy.command
        if generation.manifest is not None and generation.manifest.host is not None:
            try:
                command = await asyncio.to_thread(policy.commands.of, generation)
            except HyperError as exc:
                raise not_started(generation, exc) from exc
        process = cls(generation, policy, redact, on_end, on_idle, command, pass_fds, paths)
        try:
            answer = await handshake(process.peer, generation, policy.start_s)
            process.confinement = (*verified(told(answer), process.pid), *process.limits.shown())
        except BaseException:
            process.kill("did not start")
            await asyncio.shield(process._reaper)
            raise
        process._serving = True
        process._heart = process._loop.create_task(process._beat())
        process._guard = process._loop.create_task(process._watch())
        return process

    @property
    def reaped(self) -> asyncio.Task[None]:
        """Done when the process has gone."""
        return self._reaper

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        """May be sent calls."""
        return not self.peer.closed.done()

    @property
    def stopped(self) -> bool:
        """Halted by a signal, and not ended."""
        if not self.alive or not self._child.running:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return False  # it has just ended

    @property
    def cause(self) -> str:
        """Why it ended, for people; the exit status comes in when the process is reaped."""
        if self.peer.failure is not None:
            return f"broke the protocol: {self.peer.failure.message}"
        return self._killed_for or self._exit

    @property
    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def kill(self, cause: str) -> None:
        """End it now; open requests fail with PeerGone."""
        self._killed_for = self._killed_for or cause
        if self._child.running:
            end_descendants(self.pid)
        self._child.kill()
        self.peer.close()

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and see to it: calls in flight are finished within `grace_s` seconds. Returns when it has
        gone."""
        self._serving = False
        self._unwatch()
        with contextlib.suppress(HyperError):  # whatever it answers, it is ended below
            await self.peer.request("shutdown", {}, grace_s)
        await asyncio.wait({self._reaper}, timeout=grace_s)
        if not self._reaper.done():
            self.kill("did not stop when asked")
            await asyncio.shield(self._reaper)

    def _launch(self, command: Sequence[str | Path], more_fds: Sequence[int]) -> tuple[Child, Peer]:
        ours, theirs = socket.socketpair()
        ends: list[int] = []
        try:
            ends = [self._log.attach("stdout"), self._log.attach("stderr")]
            child = spawn(
                [*command, "--fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *more_fds), stdout=ends[0], stderr=ends[1],
                extra_env=self.grants.environment,
            )  # fmt: skip
        except BaseException:
            ours.close()
            self._log.close()
            raise
        finally:
            theirs.close()
            for end in ends:
                os.close(end)
        if self._policy.gentle:
            give_way(child.pid)
        return child, Peer(
            ours, self._on_notification, about={"peer": "host", "generation": self.generation.name, "pid": child.pid}
        )

    def _on_notification(self, method: str, params: dict[str, Any]) -> None:
        if method == "log":
            self._log.record(params)

    async def _reap(self) -> None:
        status = await self._child.wait()
        self._exit = _exit_text(status)
        if not self.peer.closed.done():
            await asyncio.wait({self.peer.closed}, timeout=LAST_ANSWERS_S)
            self.peer.close()
        self._log.close()
        log.info("host_ended", generation=self.generation.name, pid=self.pid, status=status, cause=self.cause)

    def _unwatch(self) -> None:
        for task in (self._heart, self._guard):
            if task is not None:
                task.cancel()

    async def _watch(self) -> None:
        """Keep it to its limits."""
        dog = Watchdog(self.pid, self.limits, self._policy.bounds.idle_window_s)
        used = self.last_used
        asked_by_others = any(name.startswith("service/") for name in self.generation.entries)
        while True:
            await asyncio.sleep(self._policy.watch_s)
            idle, used = self.in_flight == 0 and self.last_used == used and not asked_by_others, self.last_used
            cause = dog.look(self._loop.time(), idle=idle)
            if cause:
                log.warning("host_over_limit", generation=self.generation.name, pid=self.pid, cause=cause)
                self.kill(cause)
                return

    def _on_closed(self, _closed: asyncio.Future[None]) -> None:
        self._unwatch()
        self._child.kill()  # a host whose connection is closed has no purpose
        if self._serving:
            self._serving = False
            self._on_end(self)

    async def _beat(self) -> None:
        policy = self._policy
        while True:
            await asyncio.sleep(min(policy.heartbeat_s, policy.idle_s))
            idle = self.in_flight == 0 and self._loop.time() - self.last_used >= policy.idle_s
            if idle and self._on_idle(self):
                return
            try:
                await self.peer.request("ping", {}, policy.heartbeat_timeout_s)
            except DeadlineExceeded:
                self.kill(f"did not answer a ping within {policy.heartbeat_timeout_s:g} s")
                return
            except HyperError as exc:
                self.kill(f"answered a ping with an error: {exc.message}")
                return


def _exit_text(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by signal {-status}"
    return f"exited with status {status}"

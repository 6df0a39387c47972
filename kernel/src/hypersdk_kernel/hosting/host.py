"""A generation's host, kept available: started by the first call, restarted after a crash, stopped when idle.

    IDLE ─call─▶ STARTING ─handshake─▶ SERVING ─idle─▶ IDLE
                    │                     │ crash
                    └──── crash ──────────┴─▶ BACKING_OFF ─call, delay over─▶ STARTING      5 in 60 s: QUARANTINED
                                                                                            ─cool-down─▶ IDLE

Not here: which generation answers (registry), the process itself (host_process).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog
from hypersdk.errors import DataLoss, DeadlineExceeded, HyperError, Internal, ResourceExhausted, Unavailable
from hypersdk.plugin.manifest import MethodPolicy

from hypersdk_kernel.hosting.backoff import Backoff
from hypersdk_kernel.hosting.confinement import config_paths, declares, paths_in
from hypersdk_kernel.hosting.handshake import HandshakeFailed
from hypersdk_kernel.hosting.host_process import HostPolicy, HostProcess
from hypersdk_kernel.hosting.lanes import lane_of
from hypersdk_kernel.hosting.peer import PeerGone
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, HostState, HostStatus

NOT_MADE = "HOST_DRAINING"
"""The reason by which a host says that it did not begin a call, because it is about to end."""

log = structlog.get_logger(__name__)


def method_policy(component: ActiveComponent, method: str) -> MethodPolicy:
    """What the manifest says of a method. Of one that it does not mention: reading methods (AIP-131 Get, AIP-132
    List, and the Health and Plan of docs/host-protocol.md) have no side effects and may be repeated, others not."""
    declared = component.manifest.methods.get(method)
    if declared is not None:
        return declared
    return MethodPolicy(idempotent=method.startswith(("Get", "List")) or method in {"Health", "Plan"})


class Host:
    """The host of one generation. Its life: as drawn above; `close` ends it for good.

    condemned  its generation was rolled back: what is in flight may finish, but no process is started for it
    tried      its generation is being probed: a process that is started now gives way to those that serve
    last       its generation's files have changed: the process that runs is kept, and no other can be started
    """

    def __init__(
        self,
        generation: Generation,
        policy: HostPolicy,
        clock: Clock,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        on_crash: Callable[[Generation, str], None],
        verify: Callable[[Generation], None] = lambda _generation: None,
    ) -> None:
        self.generation = generation
        self._verify = verify
        self.condemned = False
        self.tried = self.last = False
        self._on_crash = on_crash
        self._policy = policy
        self._clock = clock
        self._redact = redact
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(policy.backoff)
        self._paths: set[str] = set()
        self._hopeless: set[str] = set()
        self._process: HostProcess | None = None
        self._starting: asyncio.Task[HostProcess] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._ended: HostProcess | None = None
        self._closed = False
        self._start_time: float | None = None
        self._start_error = ""
        self._crashes = self._calls = self._errors = self._open = 0

    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """One call, within `timeout_s` and what the manifest allows the method. Raises what the plugin raised, and of
        our own: DeadlineExceeded; ResourceExhausted (HOST_BUSY); Unavailable (HOST_START_FAILED, HOST_QUARANTINED,
        HOST_CRASHED, OUTCOME_UNKNOWN, KERNEL_STOPPING); Internal (PLUGIN_RESULT_INVALID)."""
        busy = self.in_flight
        if busy >= self._policy.max_in_flight:
            raise ResourceExhausted(
                f"{self.generation.name} has {busy} calls open; try again later",
                reason="HOST_BUSY",
                metadata={"generation": self.generation.name},
            )
        policy = method_policy(component, method)
        params: dict[str, Any] = {
            "component": component.name,
            "method": method,
            "service": service,
            "request": request,
            "connection": connection.to_wire() if connection is not None else None,
        }
        deadline = self._loop.time() + min(timeout_s, policy.timeout_s)
        self._open += 1
        self._calls += 1
        try:
            result = await self._call(component, params, connection, policy.idempotent, deadline)
            if not isinstance(result, dict):
                text = f"{component.name} answered {method} with something that is no message"
                raise Internal(text, reason="PLUGIN_RESULT_INVALID")
            return result
        except HyperError:
            self._errors += 1
            raise
        finally:
            self._open -= 1

    async def ping(self) -> float:
        """Seconds that a ping takes; starts the host if need be."""
        deadline = self._loop.time() + self._policy.start_s + self._policy.heartbeat_timeout_s
        process = self._process
        if process is None or not process.alive:
            process = await self._started(deadline)
        began = self._loop.time()
        await process.peer.request("ping", {}, self._policy.heartbeat_timeout_s)
        return self._loop.time() - began

    def reset(self) -> None:
        """Forget its crashes; what was counted stays."""
        self._backoff.forget()

    def status(self) -> HostStatus:
        process = self._process
        ended = self._ended.cause if self._ended is not None else ""
        return HostStatus(
            state=self._state(),
            pid=process.pid if process is not None else 0,
            start_time=self._start_time if process is not None else None,
            restart_count=self._crashes,
            call_count=self._calls,
            error_count=self._errors,
            in_flight_count=process.in_flight if process is not None else 0,
            resident_bytes=process.resident_bytes if process is not None else 0,
            last_error=self._start_error or (f"it {ended}" if ended else ""),
            confinement=process.confinement if process is not None else (),
        )

    @property
    def process(self) -> HostProcess | None:
        """The one that runs, if one does."""
        return self._process

    @property
    def waiting(self) -> int:
        """Calls whose callers wait."""
        return self._open

    @property
    def in_flight(self) -> int:
        """Calls whose callers wait, or that a process still works at."""
        return max(self._open, self._process.in_flight if self._process is not None else 0)

    async def close(self, grace_s: float) -> None:
        """Stop the host for good; calls in flight get `grace_s` seconds. Idempotent."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._process is not None:
            self._retire(self._process, grace_s)
        if self._stopping:
            await asyncio.wait(self._stopping)

    async def _call(
        self,
        component: ActiveComponent,
        params: dict[str, Any],
        connection: ResolvedConnection | None,
        idempotent: bool,
        deadline: float,
    ) -> Any:
        self._make_reach(params, connection)
        for attempt in range(1, self._policy.attempts + 1):
            process = self._process
            if process is None or not process.alive:
                process = await self._started(deadline)
            try:
                return await self._send(process, component, params, connection, deadline)
            except PeerGone as exc:
                self._on_end(process)
                if exc.sent and not idempotent:
                    raise self._outcome_unknown(params["method"]) from exc
                if self.condemned:
                    break
            except Unavailable as exc:
                if exc.reason != NOT_MADE or attempt == self._policy.attempts:
                    raise
        raise Unavailable(
            f"the host of {self.generation.name} died {attempt} times under {params['method']}; "
            "see the kernel's log for what the plugin printed",
            reason="HOST_CRASHED",
            metadata={"generation": self.generation.name},
        )

    def _make_reach(
        self, params: Mapping[str, Any], connection: ResolvedConnection | None
    ) -> None:
        """See to it that the host can reach the files that a call is about: a process that was not granted them is
        replaced, its calls in flight finish. Nothing for hosts whose files are not restricted."""
        if not self._policy.sandbox.enforced or not declares(self.generation):
            return
        config = connection.config if connection is not None else {}
        self._paths |= set(config_paths(self.generation.manifest, config))
        process = self._process
        if process is None or not process.alive or self.last:
            return
        wanted = {*self._paths, *paths_in(params["request"])} if process.grants.known else self._paths
        lacking = {path for path in process.grants.lacks(wanted) if path not in self._hopeless}
        if lacking:
            self._hopeless |= lacking  # once: what a fresh process is not granted either, none will be
            log.info("host_replaced_for_paths", generation=self.generation.name, paths=sorted(lacking)[:5])
            self._retire(process)

    async def _send(
        self,
        process: HostProcess,
        component: ActiveComponent,
        params: dict[str, Any],
        connection: ResolvedConnection | None,
        deadline: float,
    ) -> Any:
        lane = lane_of(component, connection)
        lanes = process.lanes
        if lane is not None:
            await lanes.enter(lane, deadline - self._loop.time())
        process.in_flight += 1
        running = True
        watchdog: asyncio.TimerHandle | None = None

        def ended() -> None:
            nonlocal running
            running = False
            process.in_flight -= 1
            process.last_used = self._loop.time()
            if lane is not None:
                lanes.leave(lane)
            if watchdog is not None:
                watchdog.cancel()

        method = params["method"]
        remaining = max(0.0, deadline - self._loop.time())
        params["timeout_s"] = round(remaining, 6)
        try:
            return await process.peer.request("call", params, remaining, ended)
        except DeadlineExceeded as exc:
            if self._loop.time() < deadline:
                raise  # the plugin's own
            raise DeadlineExceeded(
                f"{component.name} did not answer {method} in time; ask for less, or with a later deadline",
                metadata={"component": component.name, "method": method},
            ) from exc
        finally:
            if running:
                cause = f"was still at {method} {self._policy.abandoned_s:g} s after its caller had gone"
                watchdog = self._loop.call_later(self._policy.abandoned_s, process.kill, cause)

    async def _started(self, deadline: float) -> HostProcess:
        """A live host, by `deadline` (loop time). One start serves everybody who waits for it."""
        if self._process is not None and self._process.alive:
            return self._process
        if self._process is not None:
            self._on_end(self._process)
        if self._starting is None:
            self._check_startable()
            self._starting = self._loop.create_task(self._start())
            self._starting.add_done_callback(self._on_started)
        starting = self._starting
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(starting)
        except TimeoutError:
            last = self.status().last_error
            raise DeadlineExceeded(
                f"the host of {self.generation.name} was not ready in time; try again, or with a later deadline"
                + (f". Before: {last}" if last else "")
            ) from None
        except asyncio.CancelledError:
            if starting.cancelled():  # by close(), not by our caller
                self._check_startable()
            raise

    def _check_startable(self) -> None:
        if self._closed:
            raise Unavailable("the kernel is stopping", reason="KERNEL_STOPPING")
        if self.last:
            raise Unavailable(
                f"the files of {self.generation.name} have changed, so it cannot be started again; reload the plugin",
                reason="GENERATION_GONE",
                metadata={"generation": self.generation.name},
                retryable=False,
            )
        wait_s = self._backoff.quarantine_s(self._loop.time())
        if wait_s > 0:
            raise Unavailable(
                f"{self.generation.name} crashed too often and is quarantined for {wait_s:.0f} s more: "
                f"{self.status().last_error}",
                reason="HOST_QUARANTINED",
                metadata={"generation": self.generation.name},
                retry_after_s=round(wait_s, 3),
            )

    async def _start(self) -> HostProcess:
        await asyncio.sleep(self._backoff.wait_s(self._loop.time()))
        try:
            await check_files(self._verify, self.generation)
            process = await HostProcess.start(
                self.generation, replace(self._policy, gentle=self.tried), self._redact, self._on_end, self._on_idle,
                paths=frozenset(self._paths),
            )  # fmt: skip
        except HyperError as exc:
            self._start_error = exc.message
            self._crash()
            raise
        self._start_error = ""
        self._start_time = self._clock.now()
        self._process = process
        log.info("host_started", generation=self.generation.name, pid=process.pid)
        return process

    def _on_started(self, task: asyncio.Task[HostProcess]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # whoever waited has been told; nobody need have waited

    def _on_end(self, process: HostProcess) -> None:
        if process is not self._process:  # told before, by a caller that noticed first
            return
        self._process = None
        self._ended = process
        self._crash()

    def _crash(self) -> None:
        self._crashes += 1
        self._on_crash(self.generation, self.status().last_error)
        self._backoff.crashed(self._loop.time(), random.random())  # noqa: S311  spreads restarts, guards nothing
        if self._backoff.quarantine_s(self._loop.time()) > 0:
            log.error("host_quarantined", generation=self.generation.name, error=self.status().last_error)

    def _retire(self, process: HostProcess, grace_s: float | None = None) -> None:
        """Stop a host that is not needed; a call that comes meanwhile starts another."""
        if process is self._process:
            self._process = None
        task = self._loop.create_task(process.stop(self._policy.stop_s if grace_s is None else grace_s))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    def _on_idle(self, process: HostProcess) -> bool:
        if not self.last:
            self._retire(process)
        return not self.last

    def _state(self) -> HostState:
        if self._process is not None:
            return HostState.SERVING
        now = self._loop.time()
        if self._backoff.quarantine_s(now) > 0:
            return HostState.QUARANTINED
        if self._backoff.wait_s(now) > 0:
            return HostState.BACKING_OFF
        return HostState.STARTING if self._starting is not None else HostState.IDLE

    def _outcome_unknown(self, method: str) -> Unavailable:
        return Unavailable(
            f"the host of {self.generation.name} died during {method}; whether it took effect is unknown: "
            "look before you repeat it",
            reason="OUTCOME_UNKNOWN",
            metadata={"generation": self.generation.name, "method": method},
            retryable=False,
        )


async def check_files(verify: Callable[[Generation], None], generation: Generation) -> None:
    """Nothing is started from files that are not those that were installed. Raises HandshakeFailed."""
    try:
        await asyncio.to_thread(verify, generation)
    except DataLoss as exc:
        raise HandshakeFailed(
            f"the host of {generation.distribution} {generation.version} was not started: {exc.message}",
            metadata={"generation": generation.name, "cause": exc.reason},
        ) from exc

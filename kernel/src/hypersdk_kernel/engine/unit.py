"""A unit: the process of one service connection, kept as it is wanted.

    STOPPED ─wanted─▶ STARTING ─ready─▶ RUNNING ─other generation or configuration─▶ RUNNING, with a new one beside it
                         │                 │ crash                                     until that is ready, then without
                         └── failed ───────┴─▶ BACKING_OFF ─delay over─▶ STARTING        5 in 60 s: QUARANTINED a while

A new process that does not get ready changes nothing: the old one goes on, and it is tried again later. Not here: which
connections there are (keeper).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from hypersdk.errors import HyperError, NotFound, Unsupported

from hypersdk_kernel.engine.taskspec import Components
from hypersdk_kernel.hosting.backoff import Backoff, BackoffPolicy
from hypersdk_kernel.hosting.listeners import Listeners
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import Connection, ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, HostState, ServiceStatus

READY_S = 30.0
STOP_S = 5.0

log = structlog.get_logger(__name__)


class Process(Protocol):
    """hosting.host_process.HostProcess, as far as a unit needs it."""

    @property
    def peer(self) -> Any: ...

    @property
    def pid(self) -> int: ...

    @property
    def alive(self) -> bool: ...

    @property
    def cause(self) -> str: ...

    @property
    def resident_bytes(self) -> int: ...

    async def stop(self, grace_s: float) -> None: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as units need it."""

    async def start_apart(
        self,
        generation: Generation,
        on_end: Callable[[Any], None],
        pass_fds: Sequence[int],
        config: Mapping[str, Any],
    ) -> Process: ...

    def crashed(self, generation: Generation, cause: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Api:
    """How a service reaches the kernel. mint: a token of an actor; revoke: it is good no more."""

    address: str
    mint: Callable[[str], str]
    revoke: Callable[[str], None]


@dataclass(slots=True)
class _Running:
    process: Process
    generation: Generation
    revision: int
    token: str
    start_time: float


class Unit:
    """Its life: `wake` whenever something may have changed, `stop` once."""

    def __init__(
        self,
        name: str,
        registry: Components,
        hosts: Hosts,
        resolve: Callable[[str], Awaitable[ResolvedConnection]],
        api: Api,
        clock: Clock,
        policy: BackoffPolicy | None = None,
    ) -> None:
        self.name = name
        self._registry = registry
        self._hosts = hosts
        self._resolve = resolve
        self._api = api
        self._clock = clock
        self._backoff = Backoff(policy or BackoffPolicy())
        self._listeners = Listeners()
        self._connection: Connection | None = None
        self._current: _Running | None = None
        self._starting = False
        self._restarts = 0
        self._error = ""
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._keep())
        self._task.add_done_callback(self._report)

    def want(self, connection: Connection) -> None:
        """`connection` as it is now."""
        self._connection = connection
        self._wake.set()

    def wake(self) -> None:
        """Look whether another generation answers for the component."""
        self._wake.set()

    async def stop(self) -> None:
        """The process is asked to end; returns when it has."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def status(self) -> ServiceStatus:
        now, running = self._clock.monotonic(), self._current
        state = HostState.IDLE
        if running is not None and running.process.alive:
            state = HostState.SERVING
        elif self._starting:
            state = HostState.STARTING
        elif self._backoff.quarantine_s(now) > 0:
            state = HostState.QUARANTINED
        elif self._backoff.wait_s(now) > 0:
            state = HostState.BACKING_OFF
        return ServiceStatus(
            connection=self.name,
            component=self._connection.component if self._connection is not None else "",
            generation=running.generation.name if running is not None else "",
            state=state,
            pid=running.process.pid if running is not None else 0,
            start_time=running.start_time if running is not None else None,
            restart_count=self._restarts,
            resident_bytes=running.process.resident_bytes if running is not None else 0,
            addresses=tuple(self._listeners.addresses()),
            last_error=self._error,
        )

    async def _keep(self) -> None:
        try:
            while True:
                self._wake.clear()
                wait_s = await self._step()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
        finally:
            await self._end(self._current)
            self._listeners.close()

    async def _step(self) -> float | None:
        """Bring about what is wanted; seconds after which to look again, None: when woken."""
        connection = self._connection
        if connection is None:
            return None
        try:
            component = self._registry.component(connection.component)
        except NotFound as exc:  # uninstalled: there is nothing to run
            self._error = exc.message
            old, self._current = self._current, None
            await self._end(old)
            return None
        old = self._current
        if old is not None and not old.process.alive:
            self._current = None
            self._api.revoke(old.token)
            old = None
        if old is not None and (old.generation.name, old.revision) == (component.generation.name, connection.revision):
            return None
        now = self._clock.monotonic()
        delay = max(self._backoff.wait_s(now), self._backoff.quarantine_s(now))
        if delay > 0:
            return delay
        self._starting = True
        try:
            self._current = await self._start(connection, component)
            self._error = ""
        except HyperError as exc:
            swapped = old is not None and old.revision == connection.revision and not exc.reason.startswith("SECRET_")
            self._failed(component.generation, exc.message, blame=swapped)
            return self._backoff.wait_s(self._clock.monotonic())
        finally:
            self._starting = False
        await self._end(old)
        return None

    async def _start(self, connection: Connection, component: ActiveComponent) -> _Running:
        """A process that is ready. Raises what hosts, secrets and the service raise."""
        if "run" not in component.manifest.capabilities:
            raise Unsupported(f"{component.name} has no process of its own", reason="SERVICE_HAS_NO_PROCESS")
        resolved = await self._resolve(self.name)
        listeners = self._listeners.use(component.manifest, resolved.config)
        fds = {name: one.fileno() for name, one in listeners.items()}
        token = self._api.mint(f"service/{connection.id}")
        process: Process | None = None
        try:
            inherited = list(fds.values())
            process = await self._hosts.start_apart(component.generation, self._on_end, inherited, resolved.config)
            request = {"listeners": fds, "address": self._api.address, "token": token}
            await process.peer.request("call", _call(component, resolved, request, [token]), READY_S)
        except BaseException:
            self._api.revoke(token)
            if process is not None:
                await process.stop(STOP_S)
            raise
        self._listeners.trim(set(listeners))
        log.info("service_started", connection=self.name, generation=component.generation.name, pid=process.pid)
        return _Running(process, component.generation, connection.revision, token, self._clock.now())

    def _on_end(self, process: Any) -> None:
        """A process ended unasked. One that was being started fails its start as well."""
        running = self._current
        if running is not None and running.process is process:
            self._failed(running.generation, f"the service {process.cause}", blame=True)
            self._wake.set()

    def _failed(self, generation: Generation, cause: str, *, blame: bool) -> None:
        """`blame`: it speaks against the generation, and not against the configuration or a vault."""
        self._restarts += 1
        self._error = cause
        self._backoff.crashed(self._clock.monotonic(), random.random())  # noqa: S311 - spreads restarts, guards nothing
        log.error("service_failed", connection=self.name, generation=generation.name, cause=cause)
        if blame:
            self._hosts.crashed(generation, f"service of {self.name}: {cause}")

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("service_unkept", connection=self.name, exc_info=exc)

    async def _end(self, running: _Running | None) -> None:
        if running is None:
            return
        self._api.revoke(running.token)
        await running.process.stop(STOP_S)
        log.info("service_stopped", connection=self.name, generation=running.generation.name, pid=running.process.pid)


def _call(
    component: ActiveComponent, connection: ResolvedConnection, request: Mapping[str, Any], redact: list[str]
) -> dict[str, Any]:
    return {
        "component": component.name,
        "service": "",
        "method": "Run",
        "request": dict(request),
        "connection": connection.to_wire(),
        "redact": redact,
        "timeout_s": READY_S,
    }

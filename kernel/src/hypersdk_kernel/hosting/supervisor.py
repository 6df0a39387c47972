"""The pool of hosts: one for each generation that is asked something, side by side.

While a generation is on probation, an idempotent call that it answers with an error of its own is repeated on the
generation before it, so that a bad version costs its callers time and nothing else.

Not here: which generation is asked (registry), when one follows another (swap).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from hypersdk.errors import DeadlineExceeded, HyperError

from hypersdk_kernel.hosting.confinement import config_paths
from hypersdk_kernel.hosting.gentle import be_equal
from hypersdk_kernel.hosting.host import Host, check_files, method_policy
from hypersdk_kernel.hosting.host_process import HostPolicy, HostProcess
from hypersdk_kernel.hosting.probation import Probation, speaks_against
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent, Generation, HostStatus

T = TypeVar("T")

NOT_REACHED = frozenset({"HOST_CRASHED", "HOST_START_FAILED", "HOST_QUARANTINED", "HOST_DRAINING", "GENERATION_GONE"})
"""Reasons that say of a call with effects that it has had none, so that it may be repeated too."""
LOOK_S = 0.02
"""Between two looks whether a host that is being drained has calls in flight. It has for seconds, or not at all."""

log = structlog.get_logger(__name__)


class HostPool:
    """All hosts of a kernel. Its life: calls start hosts as they need them; `close` stops them all.

    redact  (fields) → those that may be logged; Registry.redact
    verify  raises DataLoss when a generation's files are not those that were installed; PluginStore.check
    """

    def __init__(
        self,
        clock: Clock,
        redact: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        policy: HostPolicy | None = None,
        verify: Callable[[Generation], None] = lambda _generation: None,
    ) -> None:
        self._clock = clock
        self._verify = verify
        self._redact = redact
        self._policy = policy or HostPolicy()
        self.on_call: Callable[[str, str, float, HyperError | None], None] | None = None
        """Told of each call's component, method, seconds and error."""
        self._hosts: dict[str, Host] = {}
        self._apart: dict[str, set[asyncio.Task[None]]] = {}
        self._probations: dict[str, Probation] = {}

    async def call(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Call a method of a component's host; see Host.call for what it raises. `service` is the proto service's
        full name, empty for the methods every host has (`Health`, `Plan`)."""
        return await self.ask(component, service, method, request, connection, timeout_s, lambda _, answer: answer)

    async def ask(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
        accept: Callable[[ActiveComponent, dict[str, Any]], T],
    ) -> T:
        """As `call`, and what `accept` makes of the component's answer; if that raises, the component is to blame."""
        tell = self.on_call
        if tell is None:
            return await self._ask(component, service, method, request, connection, timeout_s, accept)
        began = asyncio.get_running_loop().time()
        error: HyperError | None = None
        try:
            return await self._ask(component, service, method, request, connection, timeout_s, accept)
        except HyperError as exc:
            error = exc
            raise
        finally:
            tell(component.name, method, asyncio.get_running_loop().time() - began, error)

    async def _ask(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: Mapping[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
        accept: Callable[[ActiveComponent, dict[str, Any]], T],
    ) -> T:
        host = self._host(component.generation)
        probation = self._probations.get(component.generation.name)
        if probation is None:
            return accept(component, await host.call(component, service, method, request, connection, timeout_s))
        policy, terms = method_policy(component, method), probation.policy
        began = asyncio.get_running_loop().time()
        first_s = timeout_s
        if policy.idempotent and probation.spare(component) is not None:
            first_s = min(timeout_s, policy.timeout_s) * terms.fresh_share
        try:
            answer = accept(component, await host.call(component, service, method, request, connection, first_s))
        except HyperError as exc:
            took_s = asyncio.get_running_loop().time() - began
            if speaks_against(component, exc, took_s, terms):
                probation.erred(component, method, exc)
            elif isinstance(exc, DeadlineExceeded) and policy.idempotent:
                probation.answered()  # it had only a part of the caller's time; the rest is for the other
            else:
                probation.answered()
                raise
            spare = probation.spare(component)
            if spare is None or not (policy.idempotent or exc.reason in NOT_REACHED):
                raise
            log.warning("call_repeated", generation=spare.generation.name, method=method, reason=exc.reason)
        else:
            probation.answered()
            return answer
        rest_s = max(0.0, timeout_s - took_s)
        before = self._host(spare.generation)
        return accept(spare, await before.call(spare, service, method, request, connection, rest_s))

    async def start_apart(
        self,
        generation: Generation,
        on_end: Callable[[HostProcess], None],
        pass_fds: Sequence[int],
        config: Mapping[str, Any],
    ) -> HostProcess:
        """A host of `generation` beside the one that answers calls, for a service with this configuration, whose paths
        it is granted; whoever starts it stops it. Raises HandshakeFailed, Unavailable (PROCESS_START_FAILED)."""
        await check_files(self._verify, generation)
        made = await HostProcess.start(
            generation, self._policy, self._redact, on_end, lambda _process: False, pass_fds,
            frozenset(config_paths(generation.manifest, config)),
        )  # fmt: skip
        apart = self._apart.setdefault(generation.name, set())
        apart.add(made.reaped)
        made.reaped.add_done_callback(apart.discard)
        return made

    def crashed(self, generation: Generation, cause: str) -> None:
        """A process of `generation` apart from its host died or did not come up: counts on its probation."""
        self._crashed(generation, cause)

    def probing(self, generation: Generation) -> None:
        """From now on it is only tried: if its host is started, it gives way to those that serve."""
        self._host(generation).tried = True

    def probed(self, generation: Generation) -> None:
        """It has been tried: its host is the others' equal."""
        host = self._hosts.get(generation.name)
        if host is not None and host.tried:
            host.tried = False
            if host.process is not None:
                be_equal(host.process.pid)

    def processes(self) -> list[HostProcess]:
        """Those that serve."""
        return [host.process for host in self._hosts.values() if host.process is not None]

    def status(self, generation: Generation) -> HostStatus:
        host = self._hosts.get(generation.name)
        return host.status() if host is not None else HostStatus()

    async def ping(self, generation: Generation) -> float:
        """Seconds that a ping of its host takes; starts it if need be. Raises as `call`."""
        return await self._host(generation).ping()

    def reset(self, generation: Generation) -> None:
        """Forget the crashes of its host, so that one in quarantine is started by the next call."""
        host = self._hosts.get(generation.name)
        if host is not None:
            host.reset()

    def watch(self, probation: Probation) -> None:
        """Calls of the fresh generation are judged and repeated from now on."""
        self._probations[probation.fresh.name] = probation

    def unwatch(self, probation: Probation) -> None:
        """The probation is over for calls to come; those in flight know it still."""
        if self._probations.get(probation.fresh.name) is probation:
            del self._probations[probation.fresh.name]

    def condemn(self, generation: Generation) -> None:
        """No process of `generation` is started any more; what is in flight may finish."""
        self._host(generation).condemned = True

    def revive(self, generation: Generation) -> None:
        """`generation` serves: take back what `condemn` said."""
        host = self._hosts.get(generation.name)
        if host is not None:
            host.condemned = False

    def keep_last(self, generation: Generation, last: bool = True) -> None:
        """The files of `generation` have changed: its running process is the last that it can have. Not `last`: they
        are as they were again."""
        host = self._hosts.get(generation.name)
        if host is not None:
            host.last = last

    async def drain(self, generation: Generation) -> None:
        """Wait until nobody waits for an answer of `generation`, then stop its host and forget it. What it does for a
        caller that has gone gets the seconds that every host has between `shutdown` and SIGKILL. Its services are
        waited for too, which whoever started them ends."""
        host = self._hosts.get(generation.name)
        if host is not None:
            while host.waiting:  # noqa: ASYNC110  an event would cost every call of every host, for the sake of few
                await asyncio.sleep(LOOK_S)
            await self._end(generation, host)
        while apart := self._apart.get(generation.name):
            await asyncio.wait(set(apart))
        self._apart.pop(generation.name, None)

    async def stop(self, generation: Generation, grace_s: float = 0.0) -> None:
        """Stop the host of a generation that serves nobody, and forget it; calls in flight get `grace_s` seconds."""
        host = self._hosts.get(generation.name)
        if host is not None:
            await self._end(generation, host, grace_s)

    async def close(self, grace_s: float) -> None:
        """Stop all hosts: calls in flight get `grace_s` seconds in all, then the rest is killed."""
        hosts = [asyncio.ensure_future(host.close(grace_s)) for host in self._hosts.values()]
        if hosts:
            await asyncio.wait(hosts)

    async def _end(self, generation: Generation, host: Host, grace_s: float | None = None) -> None:
        del self._hosts[generation.name]
        self._probations.pop(generation.name, None)
        await host.close(self._policy.stop_s if grace_s is None else grace_s)

    def _host(self, generation: Generation) -> Host:
        host = self._hosts.get(generation.name)
        if host is None:
            host = Host(generation, self._policy, self._clock, self._redact, self._crashed, self._verify)
            self._hosts[generation.name] = host
        return host

    def _crashed(self, generation: Generation, cause: str) -> None:
        probation = self._probations.get(generation.name)
        if probation is not None:
            probation.crashed(cause)

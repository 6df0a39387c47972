"""Vaults: values of `CONNECTION:PATH` references, asked of the secrets plugin of that connection when they are needed.

Values are in memory only, for as long as the vault lets them be kept and never longer than MAX_KEPT_S; a changed
connection forgets them. Not here: references that the kernel reads itself (security.secrets).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hypersdk.errors import FailedPrecondition, HyperError, Internal, NotFound, Unavailable

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import Connection, ResolvedConnection
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.security.secrets import MAX_SECRET_BYTES, resolve_secrets

RESOLVE_TIMEOUT_S = 10.0
MAX_KEPT_S = 300.0
MAX_KEPT = 1000

Answer = tuple[str, float]


class Registry(Protocol):
    def turn(self, name: str) -> ActiveComponent: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as vaults need it."""

    async def ask(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: dict[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
        accept: Callable[[ActiveComponent, dict[str, Any]], Answer],
    ) -> Answer: ...


class Vaults:
    """Asks secrets plugins. `value` may be called any number of times at once."""

    def __init__(self, registry: Registry, hosts: Hosts, clock: Clock) -> None:
        self._registry = registry
        self._hosts = hosts
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int, str], tuple[str, float]] = OrderedDict()

    async def value(self, reference: str, field: str, get: Callable[[str], Awaitable[Connection]]) -> str:
        """The value of `reference`; `get` gives connections by id. Raises Unavailable (SECRET_SOURCE_UNAVAILABLE,
        retryable), FailedPrecondition (SECRET_UNAVAILABLE); both name the reference."""
        vault_id, _, path = reference.partition(":")
        try:
            vault = await get(vault_id)
            key = (vault.uid, vault.revision, path)
            kept = self._kept.get(key)
            if kept is not None and kept[1] > self._clock.monotonic():
                return kept[0]
            value, ttl_s = await self._ask(vault, path)
        except HyperError as exc:
            raise _failed(reference, field, exc) from exc
        self._keep(key, value, min(ttl_s, MAX_KEPT_S))
        return value

    async def _ask(self, vault: Connection, path: str) -> Answer:
        component = self._registry.turn(vault.component)
        if component.manifest.kind != "secrets":
            raise NotFound(f"{vault.name} is no secrets connection", reason="CONNECTION_NOT_FOUND")
        config, secrets = resolve_secrets(vault.config, component.manifest.secret_fields())
        connection = ResolvedConnection(vault.name, vault.component, config, secrets)
        return await self._hosts.ask(component, "", "Resolve", {"ref": path}, connection, RESOLVE_TIMEOUT_S, _accept)

    def _keep(self, key: tuple[str, int, str], value: str, ttl_s: float) -> None:
        now = self._clock.monotonic()
        self._kept.pop(key, None)
        for old in [k for k, (_, until) in self._kept.items() if until <= now or (k[0] == key[0] and k[1] != key[1])]:
            del self._kept[old]
        if ttl_s > 0:
            self._kept[key] = (value, now + ttl_s)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)


def _accept(component: ActiveComponent, answer: dict[str, Any]) -> Answer:
    """The answer of a host in any language is checked here too; what it holds is not repeated."""
    value, ttl_s = answer.get("value"), answer.get("ttl_s", 0)
    right = isinstance(value, str) and len(value) <= MAX_SECRET_BYTES
    timely = isinstance(ttl_s, int | float) and not isinstance(ttl_s, bool) and math.isfinite(ttl_s) and ttl_s >= 0
    if not right or not timely:
        raise Internal(
            f"{component.name} answered Resolve with what is no secret: value (text, at most {MAX_SECRET_BYTES} bytes) "
            "and ttl_s (seconds)",
            reason="PLUGIN_RESULT_INVALID",
            metadata={"component": component.name, "generation": component.generation.name},
        )
    return str(value), float(ttl_s)


def _failed(reference: str, field: str, exc: HyperError) -> HyperError:
    metadata = {"field": field, "reference": reference, "cause": exc.reason}
    text = f"the secret of {field}: {reference}: {exc.message}"
    if exc.retryable:
        return Unavailable(
            text, reason="SECRET_SOURCE_UNAVAILABLE", metadata=metadata, retry_after_s=exc.retry_after_s
        )
    return FailedPrecondition(text, reason="SECRET_UNAVAILABLE", metadata=metadata)

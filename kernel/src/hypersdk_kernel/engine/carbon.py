"""The gate of jobs that may wait for cleaner or cheaper hours: asks a carbon source once, and holds the job until then.

A job reaches this gate when no other one keeps it back. It is asked about before its first attempt only; the answer is
stored with the job (planned_start, planned_reason), so a restarted kernel does not ask again, and it is bounded here:
never later than the job's own limits. A source that fails, is late, or answers nonsense costs the job nothing: it
starts at once, and says why.

Not here: which hours are good (the plugin), and windows (a gate of their own).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from hypersdk.errors import HyperError, Internal, from_exception

from hypersdk_kernel.engine.background import Persist
from hypersdk_kernel.engine.gates import Doom, Hold, Reconsider
from hypersdk_kernel.engine.transitions import load, note
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.delay import Delay
from hypersdk_kernel.model.job import Job
from hypersdk_kernel.model.plugin import ActiveComponent
from hypersdk_kernel.store.engine import Store, Tx

log = structlog.get_logger(__name__)

ASK_TIMEOUT_S = 10.0
MAX_REASON = 300

Advice = tuple[float, str]

class Registry(Protocol):
    def turn(self, name: str) -> ActiveComponent: ...


class Hosts(Protocol):
    """hosting.supervisor.HostPool, as far as this gate needs it."""

    async def ask(
        self,
        component: ActiveComponent,
        service: str,
        method: str,
        request: dict[str, Any],
        connection: ResolvedConnection | None,
        timeout_s: float,
        accept: Callable[[ActiveComponent, dict[str, Any]], Advice],
    ) -> Advice: ...


class CarbonGate:
    """See the module's docstring."""

    def __init__(
        self, store: Store, clock: Clock, registry: Registry, hosts: Hosts, spawn: Persist, reconsider: Reconsider
    ) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._hosts = hosts
        self._spawn = spawn
        self._reconsider = reconsider
        self._asking: set[str] = set()

    def judge(self, job: Job, now: float) -> Hold | Doom | None:
        if job.delay is None or job.attempt_count > 0:
            return None
        if job.planned_start is not None:
            if now >= job.planned_start:
                return None
            return Hold("DELAYED", job.planned_reason, job.planned_start, "wait, or submit it again without a delay")
        if job.revision > 0 and job.id not in self._asking:  # in the store, so that the answer can be kept
            self._asking.add(job.id)
            self._spawn(job.name, lambda: self._plan(job, job.delay))
        return Hold("DELAY_ASKED", f"carbon/{job.delay.source} is being asked when it is best started")

    def forget(self, job_id: str) -> None:
        """An answer that is on its way is stored all the same: it belongs to the job."""

    async def _plan(self, job: Job, delay: Delay | None) -> None:
        if delay is None:
            return
        earliest = self._clock.now()
        latest = delay.latest(earliest, job.deadline)
        event_type = "job.delay_planned"
        try:
            start, reason = await self._ask(job, delay, earliest, latest)
        except HyperError as exc:
            log.warning("delay_not_planned", job=job.name, source=delay.source, reason=exc.reason, message=exc.message)
            start, event_type = earliest, "job.delay_failed"
            reason = f"started at once: carbon/{delay.source} gave no advice: {exc.message}"[:MAX_REASON]

        def write(tx: Tx) -> None:
            current = load(tx, job.id)
            if current.planned_start is None and not current.terminal:
                note(tx, current, event_type, "kernel", planned_start=start, planned_reason=reason)

        try:
            await self._store.write(write)
        except HyperError as exc:
            if exc.reason != "JOB_NOT_FOUND":
                raise
        self._asking.discard(job.id)
        self._reconsider([job.id])

    async def _ask(self, job: Job, delay: Delay, earliest: float, latest: float) -> Advice:
        if latest <= earliest:
            return earliest, "its deadline leaves no time to wait"
        request = {
            "job": job.name,
            "task": job.task,
            "labels": dict(job.labels),
            "region": delay.region,
            "earliest_s": earliest,
            "latest_s": latest,
            "expected_s": delay.expected_s,
        }
        try:
            component = self._registry.turn(f"carbon/{delay.source}")
            start, reason = await self._hosts.ask(component, "", "Delay", request, None, ASK_TIMEOUT_S, _accept)
        except Exception as exc:
            raise from_exception(exc, doing=f"asking carbon/{delay.source}") from exc
        if not earliest <= start <= latest:
            log.warning("delay_out_of_bounds", job=job.name, source=delay.source, start=start, latest=latest)
            reason = f"{reason} (cut to what the job allows)"
        return min(max(start, earliest), latest), reason


def _accept(component: ActiveComponent, answer: dict[str, Any]) -> Advice:
    """The answer of a host in any language is checked here too."""
    start, reason = answer.get("start_s"), answer.get("reason")
    numeric = isinstance(start, int | float) and not isinstance(start, bool) and math.isfinite(start)
    if not numeric or not isinstance(reason, str) or not reason.strip():
        raise Internal(
            f"{component.name} answered Delay without a start_s (seconds) and a reason",
            reason="PLUGIN_RESULT_INVALID",
            metadata={"component": component.name, "generation": component.generation.name},
        )
    shown = "".join(c if c.isprintable() else " " for c in reason)
    return float(start or 0.0), shown[:MAX_REASON]

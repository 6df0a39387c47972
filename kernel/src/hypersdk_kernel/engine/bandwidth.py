"""Bandwidth budgets: what jobs that run together may move together, shared out live.

A budget belongs to a limit or to a window. Each running job gets a fair share of every budget it is in, never more than
its own limit; what a job cannot use because of its own limit or another budget is shared by the others (max-min
fairness). Whenever something starts, ends, pauses or is changed, the shares are reckoned again and runners are told.

Not here: keeping to the share (the runner's throttle).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hypersdk_kernel.engine.execution import Execution
from hypersdk_kernel.engine.queue import ReadyQueue
from hypersdk_kernel.engine.windows import WindowBook
from hypersdk_kernel.model.job import Job


@dataclass(frozen=True, slots=True)
class Claim:
    """A running job's own limit, bytes/s (0: none), and the budgets it is in."""

    own: int
    budgets: tuple[str, ...]


def shares(claims: Mapping[str, Claim], budgets: Mapping[str, int]) -> dict[str, int]:
    """Job id → bytes/s, at least 1 where there is a limit at all, 0 where there is none. Max-min fair: all unsettled
    jobs grow alike until a budget is used up or a job's own limit is reached; whoever that stops is settled. Pure."""
    left = {key: float(budget) for key, budget in budgets.items() if budget > 0}
    open_: dict[str, tuple[str, ...]] = {}
    for job, claim in claims.items():
        open_[job] = tuple(key for key in dict.fromkeys(claim.budgets) if key in left)
    out = {job: 0 for job, claim in claims.items() if not open_[job] and not claim.own}
    for job in out:
        del open_[job]
    got = dict.fromkeys(open_, 0.0)
    while open_:
        users = {key: sum(key in keys for keys in open_.values()) for key in left}
        steps = [left[key] / n for key, n in users.items() if n]
        steps += [claims[job].own - got[job] for job in open_ if claims[job].own]
        step = max(min(steps), 0.0)
        for job, keys in open_.items():
            got[job] += step
            for key in keys:
                left[key] -= step
        spent = {key for key, n in users.items() if n and left[key] <= 1e-6 * budgets[key]}
        done = [
            job
            for job, keys in open_.items()
            if spent.intersection(keys) or (claims[job].own and got[job] >= claims[job].own * (1 - 1e-9))
        ]
        for job in done:
            del open_[job]
            out[job] = max(1, round(got[job]))
    return out


class Bandwidth:
    """Its life: `rebalance` whenever something has changed; several calls in one turn of the loop cost one reckoning.

    running  job id → (job, runner) of what moves data now
    """

    def __init__(
        self, queue: ReadyQueue, windows: WindowBook, running: Callable[[], Mapping[str, tuple[Job, Execution]]]
    ) -> None:
        self._queue = queue
        self._windows = windows
        self._running = running
        self._given: dict[str, int] = {}
        self._soon: asyncio.Handle | None = None

    def rebalance(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._reckon)

    def share_of(self, job_id: str) -> int | None:
        """What the job was given last, bytes/s; 0: no limit; None: it does not run."""
        return self._given.get(job_id)

    def _reckon(self) -> None:
        self._soon = None
        running = self._running()
        facts = self._queue.running_facts()
        budgets: dict[str, int] = {}
        claims: dict[str, Claim] = {}
        for job_id, (job, _) in running.items():
            keys: list[str] = []
            if job_id in facts:
                for limit_id, value in self._queue.limits.counts_of(facts[job_id]):
                    limit = self._queue.limits.get(limit_id)
                    if limit is not None and limit.bandwidth_bytes and self._queue.limits.holds(limit):
                        key = f"{limit.name} {value}"
                        budgets[key] = limit.bandwidth_bytes
                        keys.append(key)
            window = self._windows.get(job.window) if job.window else None
            if window is not None and window.bandwidth_bytes:
                budgets[window.name] = window.bandwidth_bytes
                keys.append(window.name)
            claims[job_id] = Claim(job.bandwidth_limit_bytes, tuple(keys))
        given = shares(claims, budgets)
        for job_id, rate in given.items():
            if self._given.get(job_id, running[job_id][0].bandwidth_limit_bytes) != rate:
                running[job_id][1].throttle(rate)
        self._given = given

"""Deliveries: a courier for each subscription, and what keeps them out of each other's way.

Runs on one kernel at a time (the leader). Its life: `start`, then `publish` is told of every commit, then `stop`. A
subscription is taken up, changed and dropped by its own events in the log (`subscription.created`, …), so whoever
wrote them needs not know where the couriers run.

A receiver that hangs occupies a place for as long as its notifier waits. So there are places for those that work and
others for those that failed last time: a hundred dead receivers share FAILING_PLACES between them, and hold up
nobody else for longer than their first timeout.

Not here: how a subscription is told (events.courier).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.events.courier import Courier, Send, Store
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store import subscriptions as rows

PLACES = 10
FAILING_PLACES = 4
"""Together below the 16 threads of a Python host, so that a test of a connection finds one."""
STORE_RETRY_S = 2.0
DEFECT_RETRY_S = 30.0

log = structlog.get_logger(__name__)


class Deliveries:
    """All couriers of a kernel."""

    def __init__(self, store: Store, clock: Clock, send: Send) -> None:
        self.on_outcome: list[Callable[[str], None]] = []
        self._store = store
        self._clock = clock
        self._send = send
        self._places = asyncio.Semaphore(PLACES)
        self._failing = asyncio.Semaphore(FAILING_PLACES)
        self._couriers: dict[str, Courier] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = False

    @property
    def count(self) -> int:
        """Subscriptions that are served."""
        return len(self._couriers)

    async def start(self) -> None:
        """Take up every subscription where it was left. Idempotent."""
        if self._running:
            return
        self._running = True
        for subscription_id in await self._store.read(rows.ids):
            self._employ(subscription_id)

    async def stop(self) -> None:
        """Let go of all; what was being sent is sent again by whoever starts next. Idempotent."""
        self._running = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._couriers.clear()

    def publish(self, events: Sequence[Event]) -> None:
        """Events that are durable, in order of revision. On the loop."""
        if not self._running:
            return
        for event in events:
            collection, _, subscription_id = event.subject.partition("/")
            if collection != "subscriptions":
                continue
            courier = self._couriers.get(subscription_id)
            if courier is not None:
                courier.reload()
            elif event.type == "subscription.created":
                self._employ(subscription_id)
        for courier in self._couriers.values():
            courier.offer(events)

    def _employ(self, subscription_id: str) -> None:
        if subscription_id in self._couriers:
            return
        courier = Courier(
            subscription_id, self._store, self._clock, self._send, self._lane, on_outcome=self._tell_outcome
        )
        self._couriers[subscription_id] = courier
        self._tasks[subscription_id] = asyncio.create_task(self._run(courier))

    async def _run(self, courier: Courier) -> None:
        try:
            while not courier.gone:
                await courier.wait(await self._step(courier))
        finally:
            if self._couriers.get(courier.subscription_id) is courier:
                del self._couriers[courier.subscription_id]
                del self._tasks[courier.subscription_id]

    async def _step(self, courier: Courier) -> float | None:
        """Seconds until the next one."""
        try:
            delay_s = await courier.step()
        except HyperError as exc:
            log.warning(
                "delivery_delayed", subscription=courier.subscription_id, reason=exc.reason, message=exc.message
            )
            return STORE_RETRY_S
        except Exception as exc:  # a defect of ours must not end a subscription without a word
            log.error("delivery_failed", subscription=courier.subscription_id, exc_info=exc)
            return DEFECT_RETRY_S
        return 0.0 if courier.gone else delay_s

    def _lane(self, failing: bool) -> AbstractAsyncContextManager[Any]:
        return self._failing if failing else self._places

    def _tell_outcome(self, outcome: str) -> None:
        for listener in self.on_outcome:
            listener(outcome)

"""Courier: tells one subscription's receiver of its events, in order, each at least once.

`step` does one thing that is due and says how long there is nothing to do; whoever runs it waits so long, or until
`wake`. All that must survive is in the store:

    1. an event is in the log, written with the change it tells of;
    2. it is sent;
    3. the position behind it is written, and with it, if it was refused for good, the dead letter.

A kernel that dies between 2 and 3 sends it again, under the same delivery id. Nothing is ever skipped: a position moves
only past what was taken, what the filter does not want, what is a dead letter, and what the log no longer keeps, which
is told in its place (`notification.gap`).

One thing is in flight at a time, so the receiver sees events in the order of their revisions (but for dead letters that
an operator has told once more), and a subscription holds at most a page of them in memory.

Not here: which subscriptions there are (events.delivery), and how a receiver is reached (`send`).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import structlog
from hypersdk.errors import HyperError
from sqlalchemy import Connection

from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.subscription import (
    DeadLetter,
    Notice,
    Position,
    Subscription,
    accepts,
    gap_notice,
    notice_of,
)
from hypersdk_kernel.store import events as event_rows
from hypersdk_kernel.store import subscriptions as rows
from hypersdk_kernel.store.engine import Tx

T = TypeVar("T")

PAGE = 64
"""Events read at once; those that do not pass are dropped as they are read."""
SAVE_EVERY = 500
"""Events that may pass by unwanted before the position is written for their sake."""
HINT_LIMIT_S = 86_400.0
"""No receiver can put its notification off for longer."""

Send = Callable[[Subscription, Notice, int], Awaitable[None]]
"""(subscription, what to tell, which attempt): returns when the receiver has taken it."""
Lane = Callable[[bool], AbstractAsyncContextManager[Any]]
"""A place among those that send now; True asks for one of the places for those that have failed lately."""

log = structlog.get_logger(__name__)


class Store(Protocol):
    """What a courier needs of the store."""

    @property
    def last_revision(self) -> int: ...

    def read(self, fn: Callable[[Connection], T]) -> Awaitable[T]: ...
    def write(self, fn: Callable[[Tx], T]) -> Awaitable[T]: ...


class Courier:
    """One subscription's. `gone`: the subscription was deleted, and there is nothing to do any more.

    on_outcome  called with `delivered`, `retried` or `dead` after each attempt
    """

    def __init__(
        self,
        subscription_id: str,
        store: Store,
        clock: Clock,
        send: Send,
        lane: Lane,
        *,
        chance: Callable[[], float] = random.random,
        on_outcome: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self.subscription_id = subscription_id
        self.gone = False
        self._store = store
        self._clock = clock
        self._send = send
        self._lane = lane
        self._chance = chance
        self._on_outcome = on_outcome
        self._stale = True
        self._wakeup = asyncio.Event()
        self._decided: Callable[[Tx], Position | None] | None = None
        self._pending: deque[Event] = deque()
        self._seen = 0
        self._idle = False

    # What others tell it. Synchronous, on the loop.

    def reload(self) -> None:
        """The subscription, or its position, was changed by somebody else."""
        self._stale = True
        self.wake()

    def wake(self) -> None:
        self._idle = False
        self._wakeup.set()

    def offer(self, events: Sequence[Event]) -> None:
        """Events that are durable now. Of one that waits for events, those it does not want are done with at once; any
        other reads them from the log when it gets there."""
        if not self._idle or self._stale:
            return
        if any(self._accepts(event) for event in events):
            self.wake()
            return
        self._seen = events[-1].revision
        if self._seen - self._position.cursor >= SAVE_EVERY:
            self.wake()

    async def wait(self, delay_s: float | None) -> None:
        """Until there may be something to do: `delay_s` seconds, None for as long as it takes."""
        try:
            async with asyncio.timeout(delay_s):
                await self._wakeup.wait()
        except TimeoutError:
            pass
        self._wakeup.clear()

    # What is due.

    async def step(self) -> float | None:
        """Do one thing. Seconds until the next; 0.0 at once, None when there is nothing. Raises what the store
        raises; what was decided by then is written by the next step, before anything else."""
        if self._decided is not None:
            await self._write()
        if self._stale:
            await self._load()
        if self.gone or self._subscription.paused:
            return None
        wait_s = self._due_at - self._clock.monotonic()
        if wait_s > 0:
            return wait_s
        notice, letter = await self._due()
        if notice is None:
            await self._rest()
            return None
        await self._tell(notice, letter)
        return 0.0

    async def _load(self) -> None:
        self._stale = False
        own = self.subscription_id
        try:
            found = await self._store.read(
                lambda conn: (rows.get(conn, own), rows.position(conn, own), rows.next_queued(conn, own))
            )
        except BaseException:
            self._stale = True
            raise
        subscription, position, letter = found
        if subscription is None or position is None:
            self.gone = True
            return
        self._subscription, self._accepts = subscription, accepts(subscription)
        self._take(position)
        self._letter = letter

    def _take(self, position: Position) -> None:
        """The position as the store has it now; what was read ahead is read again."""
        self._position = position
        self._due_at = self._due_time(position)
        self._seen = position.cursor
        self._pending.clear()

    def _due_time(self, position: Position) -> float:
        """When what is due may be tried, on the monotonic clock: a wall clock that is set back delays nothing."""
        if position.next_attempt_time is None:
            return 0.0
        return self._clock.monotonic() + min(position.next_attempt_time - self._clock.now(), position.delay_s)

    async def _due(self) -> tuple[Notice | None, DeadLetter | None]:
        """What to tell next, and the dead letter that it is, if it is one."""
        position = self._position
        if self._letter is not None and (position.redelivering or not position.attempt_count):
            return self._letter.notice, self._letter
        while not self._pending:
            if self._seen >= self._store.last_revision:
                return None, None
            gap = await self._read_on()
            if gap is not None:
                return gap, None
            if self._seen - position.cursor >= SAVE_EVERY and not self._pending:
                await self._save_seen()
                position = self._position
        return notice_of(self._subscription, self._pending[0]), None

    async def _read_on(self) -> Notice | None:
        """The next page of the log; or, when the log has lost what comes next, the notice that says so."""
        after, newest = self._seen, self._store.last_revision
        oldest, page = await self._store.read(
            lambda conn: (event_rows.bounds(conn)[0], event_rows.page(conn, after, PAGE))
        )
        if after < oldest - 1:
            await self._note_gap(oldest)
            return gap_notice(self._subscription, self._position.cursor, oldest, self._clock.now())
        self._pending.extend(event for event in page if self._accepts(event))
        self._seen = page[-1].revision if page else newest
        return None

    async def _note_gap(self, oldest: int) -> None:
        """Say once in the log that events were lost, whether or not the receiver can be told."""
        cursor, name = self._position.cursor, self._subscription.name
        if self._position.gap_cursor == cursor:
            return
        payload = {"after_revision": cursor, "before_revision": oldest}

        def write(tx: Tx) -> Position | None:
            return self._replace(
                tx,
                replace(self._position, gap_cursor=cursor),
                lambda: tx.emit("subscription.gap", name, "kernel", payload),
            )

        self._decided = write
        await self._write()
        log.warning("subscription_gap", subscription=name, after_revision=cursor, before_revision=oldest)

    async def _rest(self) -> None:
        """Nothing is due: note how far the log was read, if that is worth a write."""
        if self._seen - self._position.cursor >= SAVE_EVERY:
            await self._save_seen()
        self._idle = not self._stale and self._seen >= self._store.last_revision
        if not self._idle:
            self._wakeup.set()

    async def _save_seen(self) -> None:
        moved = replace(self._position, cursor=self._seen)
        self._decided = lambda tx: self._replace(tx, moved)
        await self._write()

    # Telling.

    async def _tell(self, notice: Notice, letter: DeadLetter | None) -> None:
        attempt, began = self._position.attempt_count + 1, self._clock.now()
        first_time = self._position.first_time or began
        error: HyperError | None = None
        async with self._lane(self._position.failing or attempt > 1):
            try:
                await self._send(self._subscription, notice, attempt)
            except HyperError as exc:
                if exc.reason == "KERNEL_STOPPING":
                    raise
                error = exc
        if error is None:
            self._decided = self._taken(notice, letter)
            outcome = "delivered"
        else:
            delay_s = self._subscription.retry.delay_s(attempt, self._chance(), _hint_s(error))
            final = self._subscription.retry.refusal(
                retryable=error.retryable, reason=error.reason, attempts=attempt,
                since_first_s=self._clock.now() - first_time, delay_s=delay_s,
            )  # fmt: skip
            if final is None:
                self._decided = self._put_off(error, attempt, first_time, delay_s, letter)
                outcome = "retried"
            else:
                self._decided = self._refused(notice, error, final, attempt, letter)
                outcome = "dead"
        self._on_outcome(outcome)
        await self._write()

    def _taken(self, notice: Notice, letter: DeadLetter | None) -> Callable[[Tx], Position | None]:
        before = self._position

        def write(tx: Tx) -> Position | None:
            def also() -> None:
                if letter is not None:
                    rows.exhume(tx.conn, self.subscription_id, notice.key)
                if before.failing:
                    tx.emit("subscription.recovered", self._subscription.name, "kernel", {})

            after = replace(
                before.at_once(), cursor=max(before.cursor, notice.cursor), redelivering=False, failing=False,
                last_error=None, last_success_time=tx.now, delivered_count=before.delivered_count + 1,
            )  # fmt: skip
            return self._replace(tx, after, also)

        return write

    def _put_off(
        self, error: HyperError, attempt: int, first_time: float, delay_s: float, letter: DeadLetter | None
    ) -> Callable[[Tx], Position | None]:
        after = replace(
            self._position, attempt_count=attempt, redelivering=letter is not None, first_time=first_time,
            next_attempt_time=self._clock.now() + delay_s, delay_s=delay_s, last_error=_kept(error),
        )  # fmt: skip
        return lambda tx: self._replace(tx, after)

    def _refused(
        self, notice: Notice, error: HyperError, final: str, attempt: int, letter: DeadLetter | None
    ) -> Callable[[Tx], Position | None]:
        before, kept = self._position, _kept(error)
        attempts = attempt + (letter.attempt_count if letter is not None else 0)

        def write(tx: Tx) -> Position | None:
            dropped = 0

            def also() -> None:
                nonlocal dropped
                dropped = rows.bury(tx.conn, DeadLetter(self.subscription_id, notice, attempts, kept, tx.now))
                if not before.failing:
                    said = {"reason": error.reason, "message": error.message}
                    tx.emit("subscription.failing", self._subscription.name, "kernel", {"error": said})

            after = replace(
                before.at_once(), cursor=max(before.cursor, notice.cursor), redelivering=False, failing=True,
                last_error=kept,
            )  # fmt: skip
            moved = self._replace(tx, after, also)
            if moved is after and dropped:
                moved = replace(after, dropped_count=after.dropped_count + dropped)
                rows.save_position(tx.conn, self.subscription_id, moved)
            return moved

        log.warning(
            "notification_refused", subscription=self._subscription.name, delivery=notice.delivery_id,
            reason=error.reason, attempts=attempts, final=final,
        )  # fmt: skip
        return write

    # Writing.

    def _replace(self, tx: Tx, after: Position, also: Callable[[], Any] = lambda: None) -> Position | None:
        """Write the position that follows ours, and do `also`; or, if ours is not the store's any more, nothing."""
        stored = rows.position(tx.conn, self.subscription_id)
        if stored is None or stored.epoch != after.epoch:
            return stored
        rows.save_position(tx.conn, self.subscription_id, after)
        also()
        return after

    async def _write(self) -> None:
        """Write what was decided. If that fails it stays decided: what was sent is not sent again for it."""
        assert self._decided is not None
        told = self._pending[0].revision if self._pending else 0
        letter = self._letter
        position = await self._store.write(self._decided)
        self._decided = None
        if position is None:
            self.gone = True
            return
        if position.epoch != self._position.epoch:
            self._stale = True
            return
        self._position = position
        if self._pending and position.cursor >= told:
            self._pending.popleft()
        self._seen = max(self._seen, position.cursor)
        self._due_at = self._due_time(position)
        if letter is not None and not position.attempt_count:
            self._stale = True  # the next dead letter is looked up


def _hint_s(error: HyperError) -> float | None:
    """What the receiver asked us to wait, within reason."""
    return None if error.retry_after_s is None else min(max(error.retry_after_s, 0.0), HINT_LIMIT_S)


def _kept(error: HyperError) -> dict[str, Any]:
    """As it is stored and shown: bounded, whatever a receiver said."""
    data = error.to_json()
    return {
        "kind": data["kind"], "reason": data["reason"][:64], "message": data["message"][:1024],
        "retryable": data["retryable"],
    }  # fmt: skip

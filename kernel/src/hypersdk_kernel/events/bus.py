"""Bus: from the event log to any number of watchers, without a gap and without a duplicate.

A subscription first reads the log from its revision on, page by page, at the reader's own pace. When it has reached
the newest revision it turns live, in the same turn of the loop in which it looked, and from then on `publish` puts
events into its queue. A queue that overflows ends its subscription: the reader knows the revision it has, and comes
back with that.

Not here: writing events (Tx.emit, in the transaction of the change), and what a watcher does with them (services).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from hypersdk.errors import HyperError, OutOfRange, ResourceExhausted, Unavailable
from sqlalchemy import Connection

from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store import events as event_rows

T = TypeVar("T")

PAGE = 256
"""Events read from the log at once; one is some 2 KiB, so a subscription that catches up holds half a MiB."""
PAGES_KEPT = 8
"""For others who catch up from the same revision, as watchers of a present that took a while do: some 4 MiB."""
QUEUE_LIMIT = 1024
"""Events kept for a live reader that does not read: some 2 MiB; a burst of 200 jobs makes about 800."""


class EventLog(Protocol):
    """What the bus needs of the store."""

    @property
    def last_revision(self) -> int: ...

    def read(self, fn: Callable[[Connection], T]) -> Awaitable[T]: ...


class _Pages:
    """The log page by page; those read last are kept, and those who ask for one at once wait for the same reading."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._reading = asyncio.Lock()
        self._kept: OrderedDict[int, tuple[int, int, list[Event]]] = OrderedDict()

    @property
    def last_revision(self) -> int:
        return self._log.last_revision

    async def after(self, revision: int) -> tuple[int, int, list[Event]]:
        """The oldest revision that the log has, the newest when it was read, and a page of events after `revision`."""
        async with self._reading:
            found = self._kept.get(revision)
            if found is None or (len(found[2]) < PAGE and found[1] != self._log.last_revision):
                newest = self._log.last_revision
                oldest, page = await self._log.read(
                    lambda conn: (event_rows.bounds(conn)[0], event_rows.page(conn, revision, PAGE))
                )
                found = self._kept[revision] = oldest, newest, page
                if len(self._kept) > PAGES_KEPT:
                    self._kept.popitem(last=False)
            return found


class Bus:
    """The meeting point. Lives on the loop; `publish` is hung into `store.on_commit`."""

    def __init__(self, log: EventLog, *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._log = _Pages(log)
        self._queue_limit = queue_limit
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @property
    def last_revision(self) -> int:
        """Of the newest durable event."""
        return self._log.last_revision

    @property
    def subscriber_count(self) -> int:
        return len(self._subscriptions)

    def publish(self, events: Sequence[Event]) -> None:
        """Events that are durable, in order of revision."""
        for subscription in tuple(self._subscriptions):
            subscription._offer(events)  # noqa: SLF001 - the two halves of one mechanism

    def subscribe(self, since_revision: int | None, accepts: Callable[[Event], bool] | None = None) -> Subscription:
        """Events after `since_revision` (None: only new ones) that `accepts` passes. Close it when done. Raises
        OutOfRange (REVISION_GONE) for a revision that the log has not reached; later, from `next`, for one it no
        longer has."""
        last = self.last_revision
        if since_revision is not None and since_revision > last:
            raise _gone(f"revision {since_revision} is after the last one, {last}")
        subscription = Subscription(
            self._log, last if since_revision is None else since_revision, accepts, self._queue_limit, self._forget
        )
        if self._closed:
            subscription.fail(_stopping())
        self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription with Unavailable that says to come back."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.fail(_stopping())

    def _forget(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)


class Subscription:
    """One reader. Its life: catching up, live, then failed or closed. For one task at a time.

    position  every event up to this revision has been given out or did not pass the filter
    """

    def __init__(
        self,
        log: _Pages,
        position: int,
        accepts: Callable[[Event], bool] | None,
        queue_limit: int,
        forget: Callable[[Subscription], None],
    ) -> None:
        self.position = position
        self._log = log
        self._accepts = accepts
        self._limit = queue_limit
        self._forget = forget
        self._queue: deque[Event] = deque()
        self._seen = position
        self._live = False
        self._woken = False
        self._failure: HyperError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None after `timeout_s` seconds without one, or after `wake`. Raises OutOfRange
        (REVISION_GONE), ResourceExhausted (SUBSCRIBER_TOO_SLOW), Unavailable (KERNEL_STOPPING)."""
        while True:
            if self._queue:
                event = self._queue.popleft()
                self.position = event.revision
                return event
            if self._failure is not None:
                raise self._failure
            self.position = max(self.position, self._seen)
            if self._live:
                if self._woken or not await self._wait(timeout_s):
                    self._woken = False
                    return None
            elif self.position >= self._log.last_revision:
                self._live = True
            else:
                await self._catch_up()

    def waiting(self, most: int = PAGE) -> list[Event]:
        """What `next` would give at once, up to `most` events."""
        taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
        if taken:
            self.position = taken[-1].revision
        return taken

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self.next()
            if event is not None:
                yield event

    def wake(self) -> None:
        """Let a waiting `next` return None: there is something else to do."""
        self._woken = True
        self._release()

    def fail(self, error: HyperError) -> None:
        """What is queued is dropped; the reader gets `error`."""
        self._failure = error
        self._queue.clear()
        self._forget(self)
        self._release()

    def close(self) -> None:
        """No more events. Idempotent."""
        self._queue.clear()
        self._forget(self)

    def _offer(self, events: Sequence[Event]) -> None:
        if not self._live or self._failure is not None:
            return  # still reading the log, where these are too
        accepts = self._accepts
        for event in events:
            if accepts is None or accepts(event):
                self._queue.append(event)
        self._seen = events[-1].revision
        if len(self._queue) > self._limit:
            self.fail(_too_slow(self._limit, self.position))
        elif self._queue:
            self._release()

    async def _catch_up(self) -> None:
        after = self._seen
        oldest, newest, page = await self._log.after(after)
        if 0 < after < oldest - 1:  # 0: an empty log, whose first revision need not be 1
            raise _gone(f"events after revision {after} are no longer kept; the oldest is {oldest}")
        accepts = self._accepts
        self._queue.extend(event for event in page if accepts is None or accepts(event))
        self._seen = page[-1].revision if page else newest

    async def _wait(self, timeout_s: float | None) -> bool:
        """Whether something was offered within `timeout_s`."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(max(timeout_s, 0.0), self._release)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return bool(self._queue) or self._failure is not None

    def _release(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _gone(what: str) -> OutOfRange:
    return OutOfRange(f"{what}; list again, then watch from the revision of now", reason="REVISION_GONE")


def _too_slow(limit: int, position: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"more than {limit} events waited for this reader; resume with since_revision {position}",
        reason="SUBSCRIBER_TOO_SLOW",
        metadata={"since_revision": str(position)},
    )


def _stopping() -> Unavailable:
    return Unavailable(
        "the kernel is stopping; resume with the last revision when it is back",
        reason="KERNEL_STOPPING",
        retry_after_s=1.0,
    )

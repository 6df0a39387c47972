"""The bus: no gap, no duplicate, bounded."""

import asyncio

import pytest
from hypersdk.errors import OutOfRange, ResourceExhausted, Unavailable
from hypersdk_kernel.events.bus import PAGE, Bus
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store.engine import Store
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(tmp_path / "state.db", ManualClock())
    yield opened
    await opened.close()


@pytest.fixture
def bus(store):
    made = Bus(store, queue_limit=8)
    store.on_commit.append(made.publish)
    return made


async def emit(store, *types: str) -> None:
    def write(tx):
        for type_ in types:
            tx.emit(type_, "jobs/x", "local", {})

    await store.write(write)


async def take(subscription, count: int) -> list[int]:
    found = []
    while len(found) < count:
        event = await subscription.next(5.0)
        assert event is not None
        found.append(event.revision)
    return found


async def test_a_subscription_gets_the_past_then_the_present_without_a_gap(store, bus):
    await emit(store, *["a"] * (PAGE + 5))
    subscription = bus.subscribe(3)
    first = await take(subscription, 2)
    await emit(store, "a", "a")
    rest = await take(subscription, PAGE + 2)
    assert first + rest == list(range(4, PAGE + 8))


async def test_only_new_events_without_a_revision(store, bus):
    await emit(store, "a")
    subscription = bus.subscribe(None)
    assert await subscription.next(0.0) is None
    await emit(store, "b")
    assert await take(subscription, 1) == [2]


async def test_the_filter_applies_to_past_and_present_and_the_position_moves_past_what_it_drops(store, bus):
    await emit(store, "a", "b", "b")
    subscription = bus.subscribe(0, lambda event: event.type == "a")
    assert await take(subscription, 1) == [1]
    await emit(store, "b")
    assert await subscription.next(0.0) is None
    assert subscription.position == 4
    await emit(store, "a")
    assert await take(subscription, 1) == [5]


async def test_a_revision_of_the_future_is_out_of_range(bus):
    with pytest.raises(OutOfRange) as caught:
        bus.subscribe(7)
    assert caught.value.reason == "REVISION_GONE"


async def test_a_revision_that_was_dropped_is_out_of_range(store, bus):
    from hypersdk_kernel.store.tables import events

    await emit(store, *["a"] * 10)
    await store.write(lambda tx: tx.conn.execute(events.delete().where(events.c.revision <= 5)))
    with pytest.raises(OutOfRange):
        await bus.subscribe(3).next()
    assert await take(bus.subscribe(5), 1) == [6]


async def test_a_reader_that_does_not_read_is_dropped_with_where_to_resume(store, bus):
    slow, quick = bus.subscribe(None), bus.subscribe(None)
    assert await slow.next(0.0) is None
    assert await quick.next(0.0) is None
    await emit(store, *["a"] * 5)
    assert await take(slow, 1) == [1]
    assert await take(quick, 5) == [1, 2, 3, 4, 5]
    await emit(store, *["a"] * 6)
    with pytest.raises(ResourceExhausted) as caught:
        await slow.next()
    assert caught.value.metadata["since_revision"] == "1"
    assert await take(quick, 6) == list(range(6, 12))
    assert await take(bus.subscribe(1), 10) == list(range(2, 12))
    assert bus.subscriber_count == 2


async def test_what_waits_is_taken_at_once_and_the_position_follows(store, bus):
    await emit(store, *["a"] * 5)
    subscription = bus.subscribe(0)
    assert subscription.waiting() == []
    assert await take(subscription, 1) == [1]
    assert [event.revision for event in subscription.waiting(3)] == [2, 3, 4]
    assert subscription.position == 4
    assert [event.revision for event in subscription.waiting()] == [5]
    assert subscription.waiting() == []


async def test_readers_of_the_same_past_share_its_pages_and_none_misses_what_is_new(store, bus, monkeypatch):
    await emit(store, *["a"] * (PAGE + 5))
    read, reads = store.read, []
    monkeypatch.setattr(store, "read", lambda fn: reads.append(fn) or read(fn))
    readers = [bus.subscribe(0) for _ in range(20)]
    await asyncio.gather(*(take(reader, PAGE + 5) for reader in readers))
    assert len(reads) == 2
    await emit(store, "a")
    assert await take(bus.subscribe(PAGE), 6) == list(range(PAGE + 1, PAGE + 7))
    assert len(reads) == 3


async def test_closing_the_bus_ends_waiting_readers_and_new_ones(bus):
    waiting = asyncio.ensure_future(bus.subscribe(None).next())
    await asyncio.sleep(0)
    bus.close()
    with pytest.raises(Unavailable, match="resume"):
        await waiting
    with pytest.raises(Unavailable):
        await bus.subscribe(None).next()


async def test_a_wake_returns_early_and_loses_nothing(store, bus):
    subscription = bus.subscribe(None)
    waiting = asyncio.ensure_future(subscription.next(60.0))
    await asyncio.sleep(0)
    subscription.wake()
    assert await waiting is None
    await emit(store, "a")
    assert await take(subscription, 1) == [1]


async def test_a_closed_subscription_is_forgotten(store, bus):
    subscription = bus.subscribe(None)
    subscription.close()
    subscription.close()
    assert bus.subscriber_count == 0


class Log:
    """A log in memory whose reads take a turn of the loop, so that events fall in between."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.last_revision = 0

    def append(self, gap: int) -> Event:
        event = Event(self.last_revision + gap, 0.0, "a", "jobs/x", "local")
        self.events.append(event)
        self.last_revision = event.revision
        return event


actions = st.tuples(st.sampled_from(["emit", "read", "yield"]), st.integers(1, 3))


@given(st.lists(actions, max_size=60), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_any_order_of_writing_and_reading_gives_each_event_once(steps, start):
    async def run() -> None:
        log = Log()

        async def read(fn):
            page = [e for e in log.events if e.revision > read.after][:2]
            await asyncio.sleep(0)
            return (log.events[0].revision if log.events else 0), page

        bus = Bus(log, queue_limit=1000)
        for _ in range(start):
            log.append(1)
        subscription = bus.subscribe(0)

        async def catch_up_read(fn):
            read.after = subscription._seen
            return await read(fn)

        log.read = catch_up_read
        seen: list[int] = []
        for step, gap in steps:
            if step == "emit":
                bus.publish([log.append(gap)])
            elif step == "read":
                event = await subscription.next(0.0)
                seen += [event.revision] if event else []
            else:
                await asyncio.sleep(0)
        while (event := await subscription.next(0.0)) is not None:
            seen.append(event.revision)
        assert seen == [e.revision for e in log.events]
        assert subscription.position == log.last_revision

    asyncio.run(run())

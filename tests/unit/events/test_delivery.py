"""All couriers together: a consumer that stops or hangs holds up nobody else, and is told all when it is back."""

import asyncio

import pytest
from hypersdk.errors import Unavailable
from hypersdk_kernel.events.delivery import FAILING_PLACES, PLACES, Deliveries
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store.engine import Store
from unit.events.courier_kit import Kit


@pytest.fixture
async def kit(tmp_path):
    clock = ManualClock()
    store = await Store.open(tmp_path / "state.db", clock)
    yield await Kit(store, clock).prepare()
    await store.close()


class Town:
    """Receivers by subscription; those in `silent` answer only when they are let go."""

    def __init__(self):
        self.taken = {}
        self.silent = set()
        self.let_go = asyncio.Event()
        self.sending = 0
        self.most = 0

    async def send(self, subscription, notice, attempt):
        self.sending += 1
        self.most = max(self.most, self.sending)
        try:
            if subscription.id in self.silent:
                await self.let_go.wait()
        finally:
            self.sending -= 1
        self.taken.setdefault(subscription.id, []).append(notice.event.revision)

    async def until(self, predicate):
        async with asyncio.timeout(20):
            while not predicate():
                await asyncio.sleep(0.005)


@pytest.fixture
async def start(kit):
    made = []

    async def begin(town):
        deliveries = Deliveries(kit.store, kit.clock, town.send)
        kit.store.on_commit.append(deliveries.publish)
        await deliveries.start()
        made.append(deliveries)
        return deliveries

    yield begin
    for deliveries in made:
        await deliveries.stop()


async def test_a_consumer_that_stops_blocks_nobody_and_gets_the_rest_from_its_cursor(kit, start):
    """RELIABILITY row 18."""
    town = Town()
    town.silent = {"stopped"}
    await kit.subscribe("stopped", filter_text='type = "a"')
    await kit.subscribe("well", filter_text='type = "a"')
    await start(town)
    revisions = await kit.emit(*["a"] * 150)
    await town.until(lambda: town.taken.get("well") == revisions)
    assert "stopped" not in town.taken
    town.let_go.set()
    await town.until(lambda: town.taken.get("stopped") == revisions)


async def test_more_hanging_receivers_than_there_are_places_leave_room_once_they_have_failed(kit, start):
    class Hanging(Town):
        async def send(self, subscription, notice, attempt):
            if subscription.id.startswith("bad"):
                if attempt == 1:
                    raise Unavailable("timed out")
                await self.let_go.wait()
            await super().send(subscription, notice, attempt)

    town = Hanging()
    from hypersdk_kernel.model.retry import RetryPolicy

    for index in range(PLACES + FAILING_PLACES + 2):
        await kit.subscribe(f"bad-{index}", filter_text='type = "a"', retry=RetryPolicy(5, 0.0, 1.0, 0.0))
    await kit.subscribe("well", filter_text='type = "a"')
    await start(town)
    revisions = await kit.emit("a", "a", "a")
    await town.until(lambda: town.taken.get("well") == revisions)
    town.let_go.set()


async def test_at_most_so_many_are_sent_at_once(kit, start):
    town = Town()
    for index in range(PLACES + 6):
        await kit.subscribe(f"s-{index}", filter_text='type = "a"')
        town.silent.add(f"s-{index}")
    await start(town)
    revisions = await kit.emit("a")
    await town.until(lambda: town.sending == PLACES)
    town.let_go.set()
    await town.until(lambda: len(town.taken) == PLACES + 6)
    assert town.most == PLACES
    assert all(taken == revisions for taken in town.taken.values())


async def test_subscriptions_are_taken_up_changed_and_dropped_by_their_events(kit, start):
    town = Town()
    deliveries = await start(town)
    await kit.subscribe("late", filter_text='type = "a"')
    first = await kit.emit("a")
    await town.until(lambda: town.taken.get("late") == first)
    await kit.subscriptions.update("late", {"filter": 'type = "b"'}, actor="local")
    await kit.emit("a")
    wanted = await kit.emit("b")
    await town.until(lambda: town.taken["late"] == first + wanted)
    await kit.subscriptions.delete("late", actor="local")
    await town.until(lambda: deliveries.count == 0)


async def test_after_a_stop_in_mid_send_the_next_leader_tells_it(kit, start):
    town = Town()
    town.silent = {"ops"}
    await kit.subscribe("ops", filter_text='type = "a"')
    first = await start(town)
    revisions = await kit.emit("a")
    await town.until(lambda: town.sending == 1)
    await first.stop()
    town.silent.clear()
    await start(town)
    await town.until(lambda: town.taken.get("ops") == revisions)


async def test_outcomes_are_counted(kit, start):
    town = Town()
    deliveries = await start(town)
    outcomes = []
    deliveries.on_outcome.append(outcomes.append)
    await kit.subscribe("ops", filter_text='type = "a"')
    await kit.emit("a")
    await town.until(lambda: outcomes == ["delivered"])

"""The courier: each event at least once, in order, under one id, whatever happens on the way."""

import asyncio

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument, OutOfRange, ResourceExhausted, Unavailable
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.retry import Backoff, RetryPolicy
from hypersdk_kernel.store import events as event_rows
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.tables import events as event_table
from unit.events.courier_kit import Kit

AWAY = Unavailable("connection refused")
NEVER = FailedPrecondition("404")
THRICE = RetryPolicy(max_attempts=3, initial_delay_s=10.0, multiplier=2.0, max_delay_s=60.0)


@pytest.fixture
async def kit(database):
    clock = ManualClock()
    store = await Store.open(database.backend(), clock)
    yield await Kit(store, clock).prepare()
    await store.close()


def told(kit):
    """Types of what is in the log about the subscription itself."""
    found = kit.read(lambda conn: event_rows.page(conn, 0, 1000))
    return [event.type for event in found if event.subject == "subscriptions/ops"]


async def test_events_are_told_in_order_and_the_cursor_follows(kit):
    await kit.emit("job.created")
    await kit.subscribe()
    revisions = await kit.emit(*["job.running"] * 200)
    await kit.run(kit.courier())
    assert kit.receiver.taken == revisions
    assert kit.position().cursor == revisions[-1]
    assert kit.position().delivered_count == 200


async def test_a_filter_is_over_type_subject_labels_and_task(kit):
    await kit.subscribe(filter_text='type = "job.failed" AND labels.team = "blue" AND task = "export"')
    job = {"job": {"labels": {"team": "blue"}, "task": "export"}}
    await kit.emit("job.failed")
    await kit.emit("job.failed", payload={"job": {"labels": {"team": "red"}, "task": "export"}})
    wanted = await kit.emit("job.failed", payload=job)
    await kit.emit("job.running", payload=job)
    await kit.run(kit.courier())
    assert kit.receiver.taken == wanted


async def test_a_filter_that_makes_no_sense_is_refused_when_it_is_given(kit):
    with pytest.raises(InvalidArgument) as caught:
        await kit.subscribe(filter_text='colour = "red"')
    assert caught.value.reason == "FILTER_INVALID"


async def test_a_subscription_is_not_told_of_itself(kit):
    await kit.subscribe()
    await kit.subscriptions.update("ops", {"display_name": "Operators"}, actor="local")
    await kit.run(kit.courier())
    assert kit.receiver.taken == []


async def test_what_is_unwanted_costs_no_write_until_there_is_much_of_it(kit):
    await kit.subscribe(filter_text='type = "job.failed"')
    start = kit.position().cursor
    await kit.emit(*["job.running"] * 300)
    courier = kit.courier()
    await kit.run(courier)
    assert kit.position().cursor == start
    await kit.emit(*["job.running"] * 300)
    courier.wake()
    await kit.run(courier)
    assert kit.position().cursor >= start + 500


async def test_a_failure_for_a_while_is_repeated_with_backoff_under_the_same_id(kit):
    await kit.subscribe(retry=THRICE)
    await kit.emit("a", "b")
    kit.receiver.failures = [AWAY, AWAY]
    courier = kit.courier()
    assert await kit.run(courier) == pytest.approx(10.0)
    assert await courier.step() == pytest.approx(10.0)
    kit.clock.advance(10.0)
    assert await kit.run(courier) == pytest.approx(20.0)
    kit.clock.advance(20.0)
    assert await kit.run(courier) is None
    ids = [delivery for delivery, _ in kit.receiver.attempts[:3]]
    assert len(set(ids)) == 1
    assert [attempt for _, attempt in kit.receiver.attempts] == [1, 2, 3, 1]
    assert len(kit.receiver.taken) == 2


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [("linear", [10.0, 20.0, 30.0, 40.0]), ("fibonacci", [10.0, 10.0, 20.0, 30.0]), ("none", [])],
)
async def test_delays_grow_by_the_strategy(kit, strategy, delays):
    await kit.subscribe(retry=RetryPolicy(5, 10.0, 2.0, 600.0, Backoff(strategy)))
    await kit.emit("a")
    kit.receiver.failures = [AWAY] * 5
    courier = kit.courier()
    for delay in delays:
        assert await kit.run(courier) == pytest.approx(delay)
        kit.clock.advance(delay)
    assert await kit.run(courier) is None
    assert len(kit.letters()) == 1


async def test_an_error_that_the_policy_never_retries_is_a_dead_letter_at_once(kit):
    await kit.subscribe(retry=RetryPolicy(5, 10.0, never=("UNAVAILABLE",)))
    await kit.emit("a")
    kit.receiver.failures = [AWAY]
    assert await kit.run(kit.courier()) is None
    assert len(kit.letters()) == 1


async def test_no_attempt_starts_later_than_the_total_time_after_the_first(kit):
    await kit.subscribe(retry=RetryPolicy(100, 10.0, 2.0, 600.0, max_total_s=25.0))
    await kit.emit("a")
    kit.receiver.failures = [AWAY] * 10
    courier = kit.courier()
    assert await kit.run(courier) == pytest.approx(10.0)
    kit.clock.advance(10.0)
    assert await kit.run(courier) is None
    assert (len(kit.letters()), len(kit.receiver.attempts)) == (1, 2)


async def test_the_backoff_goes_on_after_a_restart(kit):
    await kit.subscribe(retry=THRICE)
    await kit.emit("a")
    kit.receiver.failures = [AWAY]
    await kit.run(kit.courier())
    kit.clock.advance(4.0)
    restarted = kit.courier()
    assert await kit.run(restarted) == pytest.approx(6.0)
    kit.clock.advance(6.0)
    await kit.run(restarted)
    assert kit.receiver.attempts[-1][1] == 2


async def test_a_clock_that_is_set_back_delays_nothing(kit):
    await kit.subscribe(retry=THRICE)
    await kit.emit("a")
    kit.receiver.failures = [AWAY]
    courier = kit.courier()
    await kit.run(courier)
    kit.clock._now -= 86_400.0
    assert await courier.step() <= 10.0
    assert await kit.courier().step() <= 10.0


async def test_a_receivers_hint_is_honoured_and_bounded(kit):
    await kit.subscribe(retry=THRICE)
    await kit.emit("a")
    kit.receiver.failures = [ResourceExhausted("429", retry_after_s=120.0), Unavailable("503", retry_after_s=1e12)]
    courier = kit.courier()
    assert await kit.run(courier) == pytest.approx(120.0)
    kit.clock.advance(120.0)
    assert await kit.run(courier) <= 86_400.0


async def test_after_the_last_attempt_it_is_a_dead_letter_and_the_next_event_is_told(kit):
    await kit.subscribe(retry=THRICE)
    first, second = await kit.emit("a", "b")
    kit.receiver.failures = [AWAY, AWAY, AWAY]
    courier = kit.courier()
    for _ in range(4):
        await kit.run(courier)
        kit.clock.advance(60.0)
    (letter,) = kit.letters()
    assert (letter.notice.event.revision, letter.attempt_count) == (first, 3)
    assert letter.error["message"] == "connection refused"
    assert kit.receiver.taken == [second]


async def test_a_refusal_for_good_is_not_repeated(kit):
    await kit.subscribe()
    await kit.emit("a")
    kit.receiver.failures = [NEVER]
    assert await kit.run(kit.courier()) is None
    assert len(kit.letters()) == 1


async def test_the_log_says_once_that_a_receiver_fails_and_once_that_it_is_back(kit):
    await kit.subscribe()
    await kit.emit("a", "b", "c")
    kit.receiver.failures = [NEVER, NEVER]
    await kit.run(kit.courier())
    assert told(kit) == ["subscription.created", "subscription.failing", "subscription.recovered"]


async def test_two_that_are_told_of_each_others_failures_come_to_rest(kit):
    await kit.subscribe("ops")
    await kit.subscribe("dev")
    await kit.emit("a")
    kit.receiver.failures = [NEVER] * 1000
    one, other = kit.courier("ops"), kit.courier("dev")
    for _ in range(20):
        for courier in (one, other):
            courier.wake()
            await kit.run(courier)
    assert len(kit.receiver.attempts) < 10


async def test_a_dead_letter_is_told_once_more_when_asked_for(kit):
    await kit.subscribe()
    await kit.emit("a", "b")
    kit.receiver.failures = [NEVER, NEVER]
    courier = kit.courier()
    await kit.run(courier)
    first, second = kit.letters()
    assert await kit.subscriptions.redeliver("ops", letters=[second.name], actor="local") == 1
    courier.reload()
    await kit.run(courier)
    assert kit.receiver.ids == [second.notice.delivery_id]
    assert [letter.name for letter in kit.letters()] == [first.name]
    await kit.subscriptions.redeliver("ops", letters=None, actor="local")
    courier.reload()
    await kit.run(courier)
    assert kit.letters() == []
    assert len(kit.receiver.taken) == 2


async def test_a_dead_letter_refused_again_is_kept_with_all_its_attempts(kit):
    await kit.subscribe()
    await kit.emit("a")
    kit.receiver.failures = [NEVER, NEVER]
    courier = kit.courier()
    await kit.run(courier)
    await kit.subscriptions.redeliver("ops", letters=None, actor="local")
    courier.reload()
    await kit.run(courier)
    (letter,) = kit.letters()
    assert (letter.attempt_count, letter.queued) == (2, False)


async def test_everything_after_a_revision_can_be_told_once_more_under_the_same_ids(kit):
    await kit.subscribe()
    revisions = await kit.emit("a", "b", "c")
    courier = kit.courier()
    await kit.run(courier)
    await kit.subscriptions.redeliver("ops", after_revision=revisions[0], actor="local")
    courier.reload()
    await kit.run(courier)
    assert kit.receiver.taken == [*revisions, *revisions[1:]]
    assert len(set(kit.receiver.ids)) == 3


async def test_redelivery_does_not_skip_forward(kit):
    await kit.subscribe()
    revisions = await kit.emit("a", "b")
    with pytest.raises(OutOfRange):
        await kit.subscriptions.redeliver("ops", after_revision=revisions[1], actor="local")


async def test_a_delivery_under_way_does_not_undo_a_redelivery(kit):
    await kit.subscribe()
    first, second = await kit.emit("a", "b")

    async def meanwhile(notice):
        if notice.event.revision == second and kit.receiver.taken == [first]:
            await kit.subscriptions.redeliver("ops", after_revision=first - 1, actor="local")

    kit.receiver.before_answer = meanwhile
    await kit.run(kit.courier())
    assert kit.receiver.taken == [first, second, first, second]


async def test_while_it_is_paused_nothing_is_told_and_nothing_is_lost(kit):
    await kit.subscribe(paused=True)
    revisions = await kit.emit("a", "b")
    courier = kit.courier()
    assert await kit.run(courier) is None
    assert kit.receiver.attempts == []
    await kit.subscriptions.set_paused("ops", False, actor="local")
    courier.reload()
    await kit.run(courier)
    assert kit.receiver.taken == revisions


async def test_resuming_tries_at_once_what_was_to_be_tried_later(kit):
    await kit.subscribe(retry=THRICE)
    await kit.emit("a")
    kit.receiver.failures = [AWAY]
    courier = kit.courier()
    await kit.run(courier)
    await kit.subscriptions.set_paused("ops", True, actor="local")
    await kit.subscriptions.set_paused("ops", False, actor="local")
    courier.reload()
    assert await kit.run(courier) is None
    assert len(kit.receiver.taken) == 1


async def test_events_that_the_log_no_longer_has_are_told_as_a_gap(kit):
    await kit.subscribe(paused=True)
    revisions = await kit.emit(*["a"] * 10)
    start = kit.position().cursor
    pruned = event_table.delete().where(event_table.c.revision <= revisions[4])
    await kit.store.write(lambda tx: tx.conn.execute(pruned))
    await kit.subscriptions.set_paused("ops", False, actor="local")
    seen = []

    async def note(notice):
        seen.append((notice.event.type, dict(notice.event.payload)))

    kit.receiver.before_answer = note
    kit.receiver.failures = [AWAY]
    courier = kit.courier()
    await kit.run(courier)
    kit.clock.advance(60.0)
    await kit.run(kit.courier())
    assert seen[0] == ("notification.gap", {"after_revision": start, "before_revision": revisions[5]})
    assert [kind for kind, _ in seen[1:]] == ["a"] * 5
    assert told(kit).count("subscription.gap") == 1
    assert kit.receiver.attempts[0][0] == kit.receiver.attempts[1][0]


async def test_a_deleted_subscription_ends_its_courier(kit):
    await kit.subscribe()
    await kit.emit("a")
    courier = kit.courier()
    await kit.run(courier)
    await kit.subscriptions.delete("ops", actor="local")
    courier.reload()
    await courier.step()
    assert courier.gone


async def test_a_store_that_fails_after_the_send_does_not_make_it_send_again(kit):
    class Flaky:
        def __init__(self, store):
            self.store, self.fail = store, 2

        last_revision = property(lambda self: self.store.last_revision)

        async def read(self, fn):
            return await self.store.read(fn)

        async def write(self, fn):
            if self.fail:
                self.fail -= 1
                raise ResourceExhausted("disk full", reason="DISK_FULL")
            return await self.store.write(fn)

    await kit.subscribe()
    revisions = await kit.emit("a", "b")
    courier = kit.courier(store=Flaky(kit.store))
    for _ in range(2):
        with pytest.raises(ResourceExhausted):
            await kit.run(courier)
    await kit.run(courier)
    assert kit.receiver.taken == revisions


async def test_a_kernel_that_is_stopping_counts_no_attempt(kit):
    await kit.subscribe()
    await kit.emit("a")
    kit.receiver.failures = [Unavailable("stopping", reason="KERNEL_STOPPING")]
    with pytest.raises(Unavailable):
        await kit.run(kit.courier())
    assert kit.position().attempt_count == 0


async def test_dead_letters_are_bounded_and_the_loss_is_counted(kit, monkeypatch):
    from hypersdk_kernel.store import subscriptions as rows

    monkeypatch.setattr(rows, "DEAD_LETTERS_KEPT", 3)
    await kit.subscribe()
    revisions = await kit.emit(*["a"] * 5)
    kit.receiver.failures = [NEVER] * 5
    await kit.run(kit.courier())
    assert [letter.notice.event.revision for letter in kit.letters()] == revisions[2:]
    assert kit.position().dropped_count == 2


async def test_an_offered_event_that_is_not_wanted_wakes_nobody(kit):
    await kit.subscribe(filter_text='type = "job.failed"')
    courier = kit.courier()
    await kit.run(courier)
    kit.store.on_commit.append(courier.offer)
    await kit.emit("job.running")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await courier.wait(None)
    wanted = await kit.emit("job.failed")
    await courier.wait(None)
    await kit.run(courier)
    assert kit.receiver.taken == wanted

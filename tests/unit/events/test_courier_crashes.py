"""A kernel that dies at any point: nothing is lost, what comes twice comes under the same id."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypersdk.errors import FailedPrecondition, Unavailable
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.retry import RetryPolicy
from hypersdk_kernel.store.engine import Store
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.events.courier_kit import Kit


class Died(BaseException):
    """What a test raises instead of kill -9: nothing catches it."""


class MortalStore:
    """Dies before or after its n-th operation; an operation that it dies after has happened."""

    def __init__(self, store, at, *, after):
        self.store, self.left, self.after = store, at, after

    last_revision = property(lambda self: self.store.last_revision)

    async def _operate(self, operation, fn):
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Died
        done = await operation(fn)
        if self.left == 0:
            raise Died
        return done

    async def read(self, fn):
        return await self._operate(self.store.read, fn)

    async def write(self, fn):
        return await self._operate(self.store.write, fn)


async def opened(folder):
    clock = ManualClock()
    store = await Store.open(Path(folder) / "state.db", clock)
    return await Kit(store, clock).prepare()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 9))
async def test_dying_at_each_operation_loses_nothing(tmp_path, at, after):
    kit = await opened(tmp_path)
    await kit.subscribe()
    revisions = await kit.emit("a", "b", "c")
    mortal = kit.courier(store=MortalStore(kit.store, at, after=after))
    try:
        await kit.run(mortal)
    except Died:
        pass
    await kit.run(kit.courier())
    assert sorted(set(kit.receiver.taken)) == revisions
    assert len(set(kit.receiver.ids)) == 3
    assert len(kit.receiver.taken) <= 4, "one death repeats one delivery at most"
    await kit.store.close()


async def test_dying_between_the_send_and_the_write_repeats_under_the_same_id(tmp_path):
    kit = await opened(tmp_path)
    await kit.subscribe()
    (revision,) = await kit.emit("a")

    async def die(_notice):
        kit.receiver.before_answer = None
        kit.receiver.ids.append(_notice.delivery_id)
        raise Died

    kit.receiver.before_answer = die
    with pytest.raises(Died):
        await kit.run(kit.courier())
    await kit.run(kit.courier())
    assert kit.receiver.taken == [revision]
    assert len(kit.receiver.ids) == 2
    assert len(set(kit.receiver.ids)) == 1
    await kit.store.close()


ANSWERS = st.lists(st.sampled_from(["ok", "away", "never"]), max_size=12)
DEATHS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=6)


@settings(max_examples=40, deadline=None)
@given(answers=ANSWERS, deaths=DEATHS, count=st.integers(1, 8))
def test_every_event_is_taken_or_a_dead_letter_whatever_answers_and_deaths(answers, deaths, count):
    async def check(folder):
        kit = await opened(folder)
        await kit.subscribe(retry=RetryPolicy(max_attempts=2, initial_delay_s=1.0, max_delay_s=1.0))
        revisions = await kit.emit(*["a"] * count)
        errors = {"away": Unavailable("away"), "never": FailedPrecondition("never")}
        replies = iter(answers)

        async def answer(_notice):
            reply = next(replies, "ok")
            if reply != "ok":
                raise errors[reply]

        kit.receiver.before_answer = answer
        for at, after in deaths:
            try:
                await kit.run(kit.courier(store=MortalStore(kit.store, at, after=after)))
            except Died:
                pass
            kit.clock.advance(2.0)
        final = kit.courier()
        while await kit.run(final) is not None:
            kit.clock.advance(2.0)
        dead = {letter.notice.event.revision for letter in kit.letters()}
        assert set(kit.receiver.taken) | dead == set(revisions)
        first_times = list(dict.fromkeys(kit.receiver.taken))
        assert first_times == sorted(first_times), "in order"
        ids = dict(zip(kit.receiver.taken, kit.receiver.ids, strict=True))
        assert all(ids[r] == i for r, i in zip(kit.receiver.taken, kit.receiver.ids, strict=True))
        assert kit.position().cursor >= revisions[-1]
        await kit.store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(folder))

"""Groups that are filled on the loop, in the writer's thread, and in turns: the same law for all."""

import asyncio
import sqlite3
import threading
import time

import pytest
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.events import page
from hypersdk_kernel.store.sqlite import Sqlite
from sqlalchemy import text

KINDS = {"brief": lambda i: True, "long": lambda i: False, "mixed": lambda i: i % 7 > 2}


@pytest.fixture
async def store(tmp_path):
    opened = await Store.open(Sqlite(tmp_path / "state.db"), ManualClock())
    yield opened
    await opened.close()


def noting(subject, threads=None):
    def fn(tx):
        if threads is not None:
            threads.add(threading.current_thread().name)
        return tx.emit("x.y", subject, "a", {})

    return fn


async def kept(store):
    return [event.subject for event in await store.read(lambda conn: page(conn, 0, 5000))]


@pytest.mark.parametrize("kind", KINDS)
async def test_whoever_fills_the_group_all_is_kept_in_the_order_in_which_listeners_hear_of_it(store, kind):
    heard = []
    store.on_commit.append(lambda events: heard.extend(event.revision for event in events))

    async def client(number):
        for i in range(40):
            await store.write(noting(f"c{number}/{i}"), brief=KINDS[kind](number + i))

    await asyncio.gather(*(client(number) for number in range(16)))
    subjects = await kept(store)
    assert len(subjects) == len(set(subjects)) == len(heard) == 640
    assert heard == sorted(heard)
    for number in range(16):
        assert [s for s in subjects if s.startswith(f"c{number}/")] == [f"c{number}/{i}" for i in range(40)]


async def test_brief_writes_are_run_on_the_loop_and_others_never_are(store):
    on_loop, elsewhere = set(), set()
    for i in range(5):
        await store.write(noting(f"b{i}", on_loop), brief=True)
        await store.write(noting(f"l{i}", elsewhere))
    assert on_loop == {threading.current_thread().name}
    assert threading.current_thread().name not in elsewhere


@pytest.mark.parametrize("kind", KINDS)
async def test_writes_that_are_made_together_are_one_commit(store, kind):
    groups = []
    store.on_group = lambda count, _seconds: groups.append(count)
    await asyncio.gather(*(store.write(noting(f"n{i}"), brief=KINDS[kind](i)) for i in range(20)))
    assert groups == [20]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_function_that_fails_takes_only_itself_back(store, kind):
    def failing(tx):
        noting("bad")(tx)
        tx.conn.execute(text("DELETE FROM events"))
        raise ValueError("no")

    results = await asyncio.gather(
        *(store.write(failing if i == 5 else noting(f"n{i}"), brief=KINDS[kind](i)) for i in range(10)),
        return_exceptions=True,
    )
    assert [i for i, result in enumerate(results) if isinstance(result, ValueError)] == [5]
    assert await kept(store) == [f"n{i}" for i in range(10) if i != 5]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_asked_before_the_close_is_kept(tmp_path, kind):
    store = await Store.open(Sqlite(tmp_path / "state.db"), ManualClock())
    asked = [asyncio.create_task(store.write(noting(f"n{i}"), brief=KINDS[kind](i))) for i in range(30)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*asked)
    again = await Store.open(Sqlite(tmp_path / "state.db"), ManualClock())
    assert await kept(again) == [f"n{i}" for i in range(30)]
    await again.close()


async def test_another_process_that_has_locked_the_database_holds_up_the_writers_and_not_the_loop(store, tmp_path):
    await store.write(noting("before"), brief=True)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    asked = asyncio.create_task(store.write(noting("held"), brief=True))
    longest, last = 0.0, time.monotonic()
    for _ in range(40):
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert not asked.done()
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(asked, 20)
    assert longest < 5.0  # the patience is 10 s; a busy machine takes some
    await store.write(noting("after"), brief=True)
    assert await kept(store) == ["before", "held", "after"]


async def test_a_commit_that_fails_fails_its_group_and_not_the_next(store, monkeypatch):
    from sqlalchemy.engine.base import RootTransaction

    real, failures = RootTransaction.commit, iter([True])

    def commit(transaction):
        if threading.current_thread().name == "store-write" and next(failures, False):
            raise OSError(28, "No space left on device")
        real(transaction)

    monkeypatch.setattr(RootTransaction, "commit", commit)
    results = await asyncio.gather(
        *(store.write(noting(f"n{i}"), brief=True) for i in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, Exception) for result in results)
    await store.write(noting("later"), brief=True)
    assert await kept(store) == ["later"]

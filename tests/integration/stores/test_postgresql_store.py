"""The store on PostgreSQL: what only a server does, and two stores on one of them."""

import asyncio

import pytest
from hypersdk.errors import FailedPrecondition, HyperError, Unavailable
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.store import events
from hypersdk_kernel.store.engine import Store
from sqlalchemy import text

pytestmark = pytest.mark.peer


@pytest.fixture
async def stores(pg_database):
    """Of two kernels."""
    opened = [await Store.open(pg_database.backend(), ManualClock()) for _ in range(2)]
    yield opened
    for store in opened:
        await store.close()


def telling(subject):
    return lambda tx: tx.emit("x.y", subject, "test", {"n": subject})


async def settled(condition, timeout_s=20.0):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


async def test_two_stores_hear_every_event_once_and_in_the_order_of_revisions(stores):
    heard = [[], []]
    foreign = [[], []]
    for n, store in enumerate(stores):
        store.on_commit.append(lambda found, n=n: heard[n].extend((e.revision, e.subject) for e in found))
        store.on_foreign.append(lambda found, n=n: foreign[n].extend(e.subject for e in found))
    writes = [stores[i % 2].write(telling(f"n/{i % 2}/{i}")) for i in range(300)]
    await asyncio.gather(*writes)
    await settled(lambda: all(len(h) >= 300 for h in heard))
    assert heard[0] == heard[1] == sorted(heard[0])
    assert len({revision for revision, _ in heard[0]}) == 300
    assert all(subject.startswith("n/1/") for subject in foreign[0])
    assert all(subject.startswith("n/0/") for subject in foreign[1])
    assert [e.revision for e in await stores[0].read(lambda c: events.page(c, 0, 1000))] == [r for r, _ in heard[0]]


async def test_a_replaced_leader_writes_nothing_more_as_a_leader_and_everything_else_as_before(stores):
    first, second = stores

    def rise(tx):
        tx.conn.execute(text("UPDATE cluster SET epoch = epoch + 1"))
        return tx.conn.execute(text("SELECT epoch FROM cluster")).scalar_one()

    first.epoch = await first.write(rise)
    await first.leading.write(telling("a/1"))
    second.epoch = await second.write(rise)
    with pytest.raises(FailedPrecondition) as refused:
        await first.leading.write(telling("a/2"))
    assert refused.value.reason == "NOT_LEADER"
    await first.write(telling("a/3"))
    await second.leading.write(telling("a/4"))
    second.epoch = None
    with pytest.raises(FailedPrecondition):
        await second.leading.write(telling("a/5"))
    assert [e.subject for e in await first.read(lambda c: events.page(c, 0, 9))] == ["a/1", "a/3", "a/4"]


async def test_sessions_that_the_server_ends_are_opened_again_and_nothing_acknowledged_is_lost(stores, pg_database):
    store, _ = stores
    sessions = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    kept = []
    for n in range(40):
        if n % 10 == 5:
            pg_database.postgres.execute(f"SELECT pg_terminate_backend(pid) {sessions}", pg_database.name)
        try:
            kept.append((await store.write(telling(f"n/{n}"))).subject)
        except Unavailable as exc:
            assert exc.reason == "STORE_UNAVAILABLE"
    assert len(kept) >= 36
    found = [e.subject for e in await store.near(lambda c: events.page(c, 0, 100))]
    assert set(kept) <= set(found)
    await settled(lambda: store.current)


async def test_a_read_only_server_refuses_clearly_and_writes_go_on_when_it_is_none_any_more(pg_database):
    name, server = pg_database.name, pg_database.postgres
    store = await Store.open(pg_database.backend(), ManualClock())
    try:
        server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with pytest.raises(HyperError) as refused:
            for _ in range(3):  # the first may be the one that finds its session ended
                try:
                    await store.write(telling("n/1"))
                except Unavailable:
                    continue
        assert refused.value.reason == "STORE_READ_ONLY"
        assert await store.read(lambda c: events.page(c, 0, 9)) == []
        server.execute("ALTER DATABASE " + name + " RESET default_transaction_read_only")
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        async with asyncio.timeout(20):
            while True:
                try:
                    await store.write(telling("n/2"))
                    break
                except HyperError:
                    await asyncio.sleep(0.05)
    finally:
        await store.close()


async def test_a_wrong_password_is_refused_in_words_that_do_not_hold_it(pg_database):
    from hypersdk_kernel.store.postgresql import Postgresql

    backend = Postgresql(pg_database.postgres.url(pg_database.name), "planted-wrong-password")
    with pytest.raises(HyperError) as refused:
        await Store.open(backend, ManualClock())
    assert refused.value.reason == "STORE_REFUSED"
    assert "planted" not in str(refused.value)

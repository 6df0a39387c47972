"""The store: durable, grouped, each function whole or not at all."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from hypersdk.errors import AlreadyExists, DataLoss, FailedPrecondition, HyperError, ResourceExhausted
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import Job, JobState, Pin, Progress
from hypersdk_kernel.store import codec, jobs, postgresql
from hypersdk_kernel.store.engine import Store
from hypersdk_kernel.store.events import page
from hypersdk_kernel.store.requests import RequestKey, once
from hypersdk_kernel.store.tables import REQUESTS_KEPT_S
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text


@pytest.fixture
async def clock():
    return ManualClock()


@pytest.fixture
async def store(database, clock):
    opened = await Store.open(database.backend(), clock)
    yield opened
    await opened.close()


def job(name: str, **kw) -> Job:
    return Job(name, f"uid-{name}", "noop", {"a": [1, None]}, JobState.QUEUED, 1.0, 1.0, **kw)


def adding(name: str):
    def fn(tx):
        made = replace(job(name), revision=tx.new_revision())
        jobs.add(tx, made, ["lab"])
        tx.emit("job.created", made.name, "test", {"job": codec.job_to_json(made)}, revision=made.revision)
        return made

    return fn


async def test_many_writes_at_once_are_all_there_and_their_events_in_order(store):
    heard = []
    store.on_commit.append(lambda events: heard.extend(e.revision for e in events))
    await asyncio.gather(*(store.write(adding(f"j{i}")) for i in range(300)))
    assert heard == sorted(heard)
    assert len(heard) == 300
    assert await store.read(jobs.counts) == {"queued": 300}
    assert [e.revision for e in await store.read(lambda c: page(c, 0, 1000))] == heard


async def test_a_function_that_fails_takes_only_itself_back(store):
    def failing(tx):
        adding("bad")(tx)
        raise ValueError("no")

    results = await asyncio.gather(
        store.write(adding("a")), store.write(failing), store.write(adding("b")), return_exceptions=True
    )
    assert isinstance(results[1], ValueError)
    assert [r.id for r in (results[0], results[2])] == ["a", "b"]
    assert await store.near(lambda c: jobs.get(c, "bad")) is None
    assert [e.subject for e in await store.read(lambda c: page(c, 0, 10))] == ["jobs/a", "jobs/b"]


async def test_a_listener_that_raises_costs_neither_the_others_their_news_nor_the_writer_its_answer(store):
    heard = []

    def broken(_events):
        raise RuntimeError("a defect of a listener")

    store.on_commit += [broken, heard.extend]
    made = await asyncio.wait_for(store.write(adding("j")), 20)
    assert [event.subject for event in heard] == [made.name]


async def test_a_waiter_that_was_cancelled_does_not_undo_the_write(store):
    task = asyncio.create_task(store.write(adding("a")))
    await asyncio.sleep(0)
    task.cancel()
    await store.write(adding("b"))
    assert await store.near(lambda c: jobs.get(c, "a")) is not None


async def test_what_was_acknowledged_is_there_after_a_kill(database):
    script = f"""
import asyncio, os, pathlib
from hypersdk_kernel.model.clock import SystemClock
from hypersdk_kernel.store import postgresql, sqlite
from hypersdk_kernel.store.engine import Store
async def main():
    store = await Store.open({database.source()}, SystemClock())
    for i in range(20):
        await store.write(lambda tx, i=i: tx.emit("x.y", f"n/{{i}}", "a", {{}}))
        print(i, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    store = await Store.open(database.backend(), ManualClock())
    assert [e.subject for e in await store.read(lambda c: page(c, 0, 100))] == [f"n/{i}" for i in range(20)]
    await store.close()


async def test_a_request_id_returns_the_first_answer_for_a_day_and_refuses_another_request(store, clock):
    key = RequestKey("3f2b8a50-8a6c-4f0e-9d39-1d4f4c1f0001", "Create", b"\1" * 32)
    coded = (codec.job_to_json, codec.job_from_json)
    first = await store.write(lambda tx: once(tx, key, *coded, lambda: adding("a")(tx)))
    again = await store.write(lambda tx: once(tx, key, *coded, lambda: adding("b")(tx)))
    assert again == first
    with pytest.raises(AlreadyExists, match="another request"):
        other = replace(key, digest=b"\2" * 32)
        await store.write(lambda tx: once(tx, other, *coded, lambda: adding("c")(tx)))
    clock.advance(REQUESTS_KEPT_S + 1)
    assert (await store.write(lambda tx: once(tx, key, *coded, lambda: adding("b")(tx)))).id == "b"


async def test_a_damaged_database_is_refused(tmp_path, clock):
    (tmp_path / "bad.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)
    with pytest.raises(DataLoss) as damaged:
        await Store.open(tmp_path / "bad.db", clock)
    assert damaged.value.reason == "STATE_CORRUPT"


async def test_a_closed_store_refuses_writes(database, clock):
    store = await Store.open(database.backend(), clock)
    await store.close()
    with pytest.raises(HyperError) as refused:
        await store.write(adding("a"))
    assert refused.value.reason == "STORE_CLOSED"


@pytest.fixture
async def sqlite_store(tmp_path, clock):
    opened = await Store.open(tmp_path / "state.db", clock)
    yield opened
    await opened.close()


async def test_a_read_only_database_refuses_clearly(sqlite_store):
    await sqlite_store.write(lambda tx: tx.conn.execute(text("PRAGMA query_only = 1")))
    with pytest.raises(FailedPrecondition) as refused:
        await sqlite_store.write(adding("a"))
    assert refused.value.reason == "STORE_READ_ONLY"


async def test_a_full_disk_refuses_clearly_keeps_what_was_there_and_recovers_with_the_space(sqlite_store):
    await sqlite_store.write(adding("before"))
    pages = await sqlite_store.write(lambda tx: tx.conn.execute(text("PRAGMA page_count")).scalar_one())
    await sqlite_store.write(lambda tx: tx.conn.execute(text(f"PRAGMA max_page_count = {pages + 2}")))
    with pytest.raises(ResourceExhausted) as refused:
        for i in range(200):
            await sqlite_store.write(adding(f"j{i}"))
    assert refused.value.reason == "DISK_FULL"
    stored = await sqlite_store.read(jobs.counts)
    assert stored["queued"] == 1 + i
    await sqlite_store.write(lambda tx: tx.conn.execute(text("PRAGMA max_page_count = 1000000")))
    await sqlite_store.write(adding("after"))
    assert (await sqlite_store.read(jobs.counts))["queued"] == stored["queued"] + 1


async def test_pages_of_jobs_neither_repeat_nor_skip(store):
    for i in range(25):
        await store.write(adding(f"j{i:02}"))
    seen, after = [], None
    while found := await store.near(lambda c, after=after: jobs.page(c, 7, after=after)):
        seen += [j.id for j in found]
        after = (found[-1].create_time, found[-1].id)
    assert seen == [f"j{i:02}" for i in reversed(range(25))]


@given(
    st.builds(Progress, st.text(max_size=5), st.integers(0, 1 << 60)),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
)
def test_a_job_survives_its_encoding(progress, labels):
    pin = Pin("plugins/x/generations/1", "hypersdk-x", "1.0", "ab", "1.0", ("task/x",))
    made = job("a", progress=progress, labels=labels, pins=(pin,), result={"x": 1}, cancel_requested=True, revision=9)
    import json

    assert codec.job_from_json(json.loads(codec.dumps(codec.job_to_json(made)))) == made


async def test_a_store_hears_of_others_and_closes_without_waiting_for_the_next_look(pg_database, clock, monkeypatch):
    monkeypatch.setattr(postgresql, "POLL_S", 60.0)
    ours = await Store.open(pg_database.backend(), clock)
    theirs = await Store.open(pg_database.backend(), clock)
    heard = asyncio.Event()
    ours.on_foreign.append(lambda events: heard.set())
    async with asyncio.timeout(20):
        for name in ("a", "b"):  # of the first it may hear by the look with which listening begins
            heard.clear()
            await theirs.write(adding(name))
            await heard.wait()
        await ours.close()
        await theirs.close()

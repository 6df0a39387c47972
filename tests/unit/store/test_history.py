"""Reports: the database's sums equal those of a simple model, on each database."""

import statistics
from dataclasses import replace

import pytest
from hypersdk_kernel.engine.transitions import change
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.job import Job, JobEvent, JobState, Progress
from hypersdk_kernel.services.reports import FILTER_FIELDS
from hypersdk_kernel.store import history
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store

DAY = 86_400.0
START = 1_800_000_000.0


@pytest.fixture
async def store(database):
    opened = await Store.open(database.backend(), ManualClock(START))
    yield opened
    await opened.close()


def job(number, state="succeeded", task="export", run_s=10.0, day=0, labels=None, wait_s=2.0, reason=""):
    created = START + day * DAY
    started = None if run_s is None else created + wait_s
    end = created + wait_s + (run_s or 0.0)
    return Job(
        f"j-{number}", f"00000000-0000-4000-8000-{number:012}", task, {}, JobState(state), created, end,
        labels=labels or {}, start_time=started, end_time=end, attempt_count=0 if run_s is None else 1,
        progress=Progress("copy", 0, -1, 1000, 400), revision=number + 1, owner="local",
        error={"reason": reason, "message": ""} if reason else None,
    )  # fmt: skip


async def ended(store, jobs, connections=None):
    def write(tx):
        for one in jobs:
            rows.add(tx, one, (connections or {}).get(one.id, ()))
            history.record(tx, one)

    await store.write(write)


async def report(store, filter_text="", start=START - DAY, end=START + 400 * DAY, slowest=10):
    where = parse(filter_text).sql(FILTER_FIELDS)
    return await store.read(lambda conn: history.report(conn, start, end, where, slowest))


async def test_nothing_ended_is_a_report_too(store):
    found = await report(store)
    assert found == history.Report(history.Sums(""), [], [], [], [], [])


async def test_percentiles_are_nearest_rank_over_what_ran(store):
    runs = [float(n * n % 97) + 1 for n in range(41)]
    await ended(store, [job(n, run_s=run) for n, run in enumerate(runs)] + [job(99, "cancelled", run_s=None)])
    total = (await report(store)).total
    ordered = sorted(runs)
    assert (total.count, total.cancelled) == (42, 1)
    assert total.p50_s == pytest.approx(ordered[20])
    assert total.p95_s == pytest.approx(ordered[38])
    assert total.longest_s == pytest.approx(ordered[-1])
    assert total.run_s == pytest.approx(sum(runs))
    assert total.wait_s == pytest.approx(statistics.mean([2.0] * 41))


async def test_by_task_connection_day_and_reason(store):
    await ended(
        store,
        [
            job(1, task="export", day=0),
            job(2, "failed", task="export", day=1, reason="DISK_FULL"),
            job(3, "failed", task="backup", day=1, reason="DISK_FULL"),
            job(4, "failed", task="backup", day=3, reason="RUNNER_LOST"),
        ],
        {"j-1": ["lab"], "j-2": ["lab", "backups"]},
    )
    found = await report(store)
    assert [(s.key, s.count, s.succeeded, s.failed) for s in found.tasks] == [("backup", 2, 0, 2), ("export", 2, 1, 1)]
    assert [(s.key, s.count) for s in found.connections] == [("lab", 2), ("backups", 1)]
    first = int(START // DAY)
    assert [(int(s.key) - first, s.count) for s in found.days] == [(0, 1), (1, 2), (3, 1)]
    assert found.reasons == [("DISK_FULL", 2), ("RUNNER_LOST", 1)]
    assert (found.total.bytes_read, found.total.bytes_written) == (4000, 1600)


async def test_the_slowest_come_first(store):
    await ended(store, [job(n, run_s=float(n)) for n in range(20)])
    assert [slow.job_id for slow in (await report(store, slowest=3)).slowest] == ["j-19", "j-18", "j-17"]


@pytest.mark.parametrize(
    ("filter_text", "count"),
    [
        ('task = "backup"', 1), ("state = FAILED", 2), ("labels.team = blue", 1), ('reason = "DISK*"', 1),
        ("name = jobs/j-1", 1),
    ],
)  # fmt: skip
async def test_a_filter_picks(store, filter_text, count):
    await ended(
        store,
        [
            job(1, labels={"team": "blue"}),
            job(2, "failed", task="backup", reason="DISK_FULL"),
            job(3, "failed", reason="RUNNER_LOST"),
        ],
    )
    assert (await report(store, filter_text)).total.count == count


async def test_the_range_is_of_ends_and_half_open(store):
    await ended(store, [job(1), job(2, day=5)])
    one = job(1).end_time
    assert (await report(store, start=one, end=one + 1)).total.count == 1
    assert (await report(store, start=one - 1, end=one)).total.count == 0


async def test_an_end_is_recorded_with_the_change_and_a_second_end_is_another(store):
    queued = replace(job(1), state=JobState.QUEUED, start_time=None, end_time=None, attempt_count=0, progress=None)
    await store.write(lambda tx: rows.add(tx, queued, ()))
    cancelled = await store.write(lambda tx: change(tx, queued, JobEvent.CANCEL, "local"))
    again = await store.write(lambda tx: change(tx, cancelled, JobEvent.RETRY, "local", end_time=None))
    await store.write(lambda tx: change(tx, again, JobEvent.CANCEL, "local"))
    total = (await report(store)).total
    assert (total.count, total.cancelled, total.p50_s) == (2, 2, None)


async def test_jobs_that_ended_before_there_was_a_history_are_in_it(empty_database):
    import json

    from hypersdk_kernel.store import codec, schema

    backend = empty_database.backend()
    from pathlib import Path

    from alembic import command
    from alembic.config import Config
    from sqlalchemy import text

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.attributes["engine"] = backend.engine
    command.upgrade(config, "0008")
    with backend.engine.begin() as conn:
        for number in range(2500):
            body = codec.job_to_json(job(number, "failed", reason="DISK_FULL"))
            values = {"id": body["id"], "uid": body["uid"], "body": json.dumps(body)}
            conn.execute(
                text(
                    "INSERT INTO jobs (id, uid, task, state, priority, owner, create_time, update_time, revision,"
                    " labels, body) VALUES (:id, :uid, 'export', 'failed', 50, '', 1, 1, 1, '{}', :body)"
                ),
                values,
            )
    backend.engine.dispose()
    store = await Store.open(empty_database.backend(), ManualClock(START))
    found = await report(store)
    assert (found.total.count, found.total.failed, found.reasons) == (2500, 2500, [("DISK_FULL", 2500)])
    await store.close()

"""What is asked of jobs is answered by an index, so that it costs the same whatever else there is. Plans are judged,
not times."""

import pytest
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.job import JobState
from hypersdk_kernel.services.jobs import FILTER_FIELDS
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store
from sqlalchemy import event
from support.filling import RARE, fill

COUNT = 4000


def listed(filter_, *, after=None, order="create_time"):
    asked = parse(filter_)
    return lambda conn: rows.page(
        conn, 51, order=order, after=after, where=asked.sql(FILTER_FIELDS), label=asked.demanded("labels")
    )


QUESTIONS = {
    "list": (listed(""), "jobs_by_create_time"),
    "next page": (listed("", after=(1.0, "s1")), "jobs_by_create_time"),
    "list by change": (listed("", order="update_time"), "jobs_by_update_time"),
    "state": (listed("state = FAILED"), "jobs_by_state"),
    "task": (listed("task = check"), "jobs_by_task"),
    "group": (listed('group = "jobGroups/g7"'), "jobs_by_group"),
    "schedule": (listed('schedule = "schedules/x"'), "jobs_by_schedule"),
    "label": (listed(f"labels.lot = {RARE}"), "job_labels"),
    "label and more": (listed(f"labels.lot = {RARE} AND priority > 3 AND state = QUEUED"), "job_labels"),
    "label, next page": (listed("labels.team = t1", after=(1.0, "s1")), "job_labels"),
    "name": (listed('name = "jobs/s7"'), "jobs"),
    "get": (lambda conn: rows.get(conn, "s7"), "jobs"),
    "begun": (lambda conn: rows.in_states(conn, (JobState.RUNNING, JobState.PAUSED)), "jobs_by_state"),
    "waiting": (lambda conn: rows.in_state(conn, JobState.WAITING, 500, (1.0, "s1")), "jobs_by_state"),
    "group's jobs": (lambda conn: rows.in_group(conn, "g7"), "jobs_by_group"),
    "group's counts": (lambda conn: rows.group_counts(conn, ["g7", "g8"]), "jobs_by_group"),
    "oldest queued": (rows.oldest_queued, "jobs_by_state"),
}

FEW = {"group", "group's jobs", "begun"}
"""At most 1,000 jobs, or as many as run: they may be sorted."""


@pytest.fixture
async def store(database):
    await fill(database.backend(), ManualClock(), COUNT)
    if database.shared:
        database.postgres.execute("VACUUM ANALYZE", database.name)
    made = await Store.open(database.backend(), ManualClock())
    yield made
    await made.close()


def plan_of(store, conn, ask):
    """The plan of the one statement that `ask` runs."""
    said = []
    listener = (conn, "before_cursor_execute", lambda *a: said.append((a[2], a[3])))
    event.listen(*listener)
    ask(conn)
    event.remove(*listener)
    ((statement, parameters),) = said
    explain = "EXPLAIN " if store.shared else "EXPLAIN QUERY PLAN "
    return [str(row[-1]) for row in conn.exec_driver_sql(explain + statement, parameters)]


async def test_what_is_asked_of_jobs_uses_an_index(store):
    def judge(conn):
        wrong = {}
        for name, (ask, index) in QUESTIONS.items():
            plan = plan_of(store, conn, ask)
            text = "\n".join(plan)
            scans = [line for line in plan if "Seq Scan" in line or (line.startswith("SCAN") and "USING" not in line)]
            sorts = "B-TREE FOR ORDER BY" in text and name not in FEW
            if scans or index not in text or sorts:
                wrong[name] = plan
        return wrong

    assert await store.read(judge) == {}


@pytest.mark.parametrize("filter_", ["labels.lot = rare", "labels.lot = common AND task = convert", "labels.team = t3"])
async def test_the_short_way_by_label_finds_what_the_long_way_finds(store, filter_):
    where = parse(filter_).sql(FILTER_FIELDS)
    label = parse(filter_).demanded("labels")
    assert label is not None
    for descending in (True, False):
        after = None
        for _ in range(2):
            how = {"after": after, "descending": descending, "where": where}
            short = await store.read(lambda conn, how=how: rows.page(conn, 20, label=label, **how))
            long = await store.read(lambda conn, how=how: rows.page(conn, 20, **how))
            assert [job.id for job in short] == [job.id for job in long] != []
            after = short[-1].create_time, short[-1].id

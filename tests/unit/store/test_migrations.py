"""From every released schema to the newest, on each database; and back to nothing when a migration fails."""

import json

import pytest
from hypersdk.errors import FailedPrecondition
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import JobState
from hypersdk_kernel.store import audit, connections, events, jobs, plugins, schema
from hypersdk_kernel.store.engine import Store
from sqlalchemy import text

JOB = {
    "id": "old", "uid": "00000000-0000-4000-8000-000000000001", "task": "convert", "spec": {"a": [1, None]},
    "state": "retrying", "create_time": 1.5, "update_time": 2.5, "display_name": "Önn", "labels": {"team": "a"},
    "priority": 50, "retry": {"max_attempts": 3, "initial_delay_s": 10.0, "multiplier": 2.0, "max_delay_s": 600.0},
    "bandwidth_limit_bytes": 0, "state_message": "", "start_time": 2.0, "end_time": None, "next_attempt_time": 9.0,
    "attempt_count": 1, "progress": None, "result": None, "error": None, "cancel_requested": False,
    "pins": [{"generation": "plugins/x/generations/1", "distribution": "hypersdk-x", "version": "1.0", "digest": "ab",
              "api_version": "1.0", "components": ["task/x"]}],
    "revision": 7, "owner": "local",
}  # fmt: skip
ATTEMPT = {"job_id": "old", "number": 1, "state": "failed", "start_time": 2.0, "end_time": 2.5, "error": None,
           "progress": None, "runner_pid": 12, "resumed": False}  # fmt: skip
CONNECTION = {"id": "lab", "uid": "00000000-0000-4000-8000-000000000002", "component": "provider/directory",
              "config": {"path": "/x"}, "create_time": 1.0, "update_time": 1.0, "display_name": "", "labels": {},
              "revision": 3}  # fmt: skip


def rows_of_0001(conn):
    """As the first version wrote them."""
    conn.execute(
        text(
            "INSERT INTO jobs VALUES (:id, :uid, :task, :state, 50, 'local', 1.5, 2.5, 9.0, 7, :labels, :body)"
        ),
        {"id": JOB["id"], "uid": JOB["uid"], "task": JOB["task"], "state": JOB["state"], "labels": '{"team":"a"}',
         "body": json.dumps(JOB)},
    )  # fmt: skip
    conn.execute(text("INSERT INTO attempts VALUES ('old', 1, 'failed', 2.0, :body)"), {"body": json.dumps(ATTEMPT)})
    conn.execute(
        text("INSERT INTO connections VALUES ('lab', :uid, 'provider/directory', 1.0, 3, '{}', :body)"),
        {"uid": CONNECTION["uid"], "body": json.dumps(CONNECTION)},
    )
    conn.execute(text("INSERT INTO job_connections VALUES ('old', 'lab')"))
    for revision, kind, subject, payload in (
        (3, "connection.created", "connections/lab", {"connection": CONNECTION}),
        (7, "job.retrying", "jobs/old", {"job": JOB}),
    ):
        conn.execute(
            text("INSERT INTO events VALUES (:revision, 2.5, :type, :subject, 'local', :payload)"),
            {"revision": revision, "type": kind, "subject": subject, "payload": json.dumps(payload)},
        )
    conn.execute(
        text("INSERT INTO requests VALUES ('r-1', 'CreateJob', :digest, '{}', 1.0)"), {"digest": b"\x01" * 32}
    )


def rows_of_0002(conn):
    conn.execute(text("INSERT INTO plugins VALUES ('x', 'hypersdk-x', 'An x.', 4)"))
    conn.execute(
        text(
            "INSERT INTO generations VALUES ('x', 4, '1.0', 'ab', 'installed', 'active', 2.0, :body)"
        ),
        {"body": '{"install_time": 1.0, "seal": "ab", "failure_reason": "", "failure_message": ""}'},
    )  # fmt: skip


def rows_of_0003(conn):
    conn.execute(
        text("INSERT INTO audit VALUES (1, 2.5, 'local', 'J.CreateJob', 'jobs/old', 'OK', '{}', :prev, :hash)"),
        {"prev": "0" * 64, "hash": "ab" * 32},
    )
    conn.execute(text("UPDATE audit_head SET seq = 1, hash = :hash"), {"hash": "ab" * 32})


def rows_of_0004(conn):
    conn.execute(text("UPDATE jobs SET schedule = 'nightly'"))


def rows_of_0005(conn):
    conn.execute(text("INSERT INTO subscription_positions VALUES ('s', 7, '{}')"))


def rows_of_0006(conn):
    """The migration itself made the rows of what version 5 had."""


def rows_of_0007(conn):
    conn.execute(text("INSERT INTO documents VALUES ('window', 'nights', 1.0, 7, '{}')"))


WRITERS = (rows_of_0001, rows_of_0002, rows_of_0003, rows_of_0004, rows_of_0005, rows_of_0006, rows_of_0007)
RELEASED = {f"{number:04}": WRITERS[:number] for number in range(1, len(WRITERS) + 1)}
"""Released schemas and what a database of each holds. One is added with every release, and none is ever taken away."""


def at(database, revision):
    """A database as the version with that schema left it."""
    backend = database.backend()
    for number, write in enumerate(RELEASED[revision], 1):
        schema.upgrade(backend.engine, f"{number:04}")
        with backend.engine.begin() as conn:
            write(conn)
    backend.engine.dispose()


@pytest.mark.parametrize("revision", RELEASED)
async def test_a_database_of_a_released_schema_is_migrated_with_all_that_is_in_it(empty_database, revision):
    at(empty_database, revision)
    store = await Store.open(empty_database.backend(), ManualClock())
    try:
        assert store.schema_revision == schema.HEAD
        job = await store.near(lambda c: jobs.get(c, "old"))
        assert (job.state, job.labels, job.display_name) == (JobState.RETRYING, {"team": "a"}, "Önn")
        assert [j.id for j in await store.read(lambda c: jobs.page(c, 5))] == ["old"]
        assert (await store.read(lambda c: jobs.get_attempt(c, "old", 1))).runner_pid == 12
        assert (await store.read(lambda c: connections.get(c, "lab"))).config == {"path": "/x"}
        assert await store.read(lambda c: jobs.using(c, "lab", set(JobState), 5)) == ["old"]
        assert [e.revision for e in await store.read(lambda c: events.page(c, 0, 9))] == [3, 7]
        found = await store.read(plugins.load)
        assert [p.id for p in found] == (["x"] if revision >= "0002" else [])
        assert (await store.read(audit.head))[0] == (1 if revision >= "0003" else 0)
        # Revisions go on from where the log ends, never back.
        assert store.last_revision == 7
        assert (await store.write(lambda tx: tx.emit("x.y", "n/1", "a", {}))).revision == 8
    finally:
        await store.close()


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(database):
    store = await Store.open(database.backend(), ManualClock())
    await store.write(lambda tx: tx.conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await store.close()
    with pytest.raises(FailedPrecondition) as refused:
        await Store.open(database.backend(), ManualClock())
    assert refused.value.reason == "SCHEMA_TOO_NEW"
    backend = database.backend()
    assert schema.current(backend.engine) == "9999"
    backend.engine.dispose()


async def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(empty_database, monkeypatch):
    at(empty_database, f"{len(WRITERS):04}")
    from alembic import op

    create = op.create_table

    def failing(name, *columns, **kw):
        if name == "kernels":  # the second step of migration 0008
            raise RuntimeError("the machine lost power here")
        return create(name, *columns, **kw)

    monkeypatch.setattr(op, "create_table", failing)
    with pytest.raises(RuntimeError, match="lost power"):
        await Store.open(empty_database.backend(), ManualClock())
    monkeypatch.undo()
    backend = empty_database.backend()
    assert schema.current(backend.engine) == f"{len(WRITERS):04}"
    with backend.engine.connect() as conn:  # what that version needs is there, and nothing half made
        from sqlalchemy import inspect

        names = set(inspect(conn).get_table_names())
        assert "cluster" not in names
        assert jobs.get(conn, "old").id == "old"
    backend.engine.dispose()
    store = await Store.open(empty_database.backend(), ManualClock())
    assert store.schema_revision == schema.HEAD
    await store.close()


async def test_migrations_lead_to_the_schema_that_the_code_uses(empty_database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from hypersdk_kernel.store.tables import metadata

    store = await Store.open(empty_database.backend(), ManualClock())
    differences = await store.read(lambda c: compare_metadata(MigrationContext.configure(c), metadata))
    assert differences == []
    await store.close()


def test_every_released_schema_but_the_newest_is_tested_here():
    from pathlib import Path

    found = sorted(p.name[:4] for p in (Path(schema.__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
    assert found[-1] == schema.HEAD
    assert set(RELEASED) <= set(found)

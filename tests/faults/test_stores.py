"""The state directory and its database when the disk is full, when they are copied, and when they are put back."""

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypersdk.api.jobs.v1.jobs_pb2 import JobState
from hypersdk.client import Client
from hypersdk.errors import HyperError
from support.daemon import BIN, Daemon

pytestmark = pytest.mark.faults
MIB = 1 << 20


def hypersdkd(*arguments):
    return subprocess.run([BIN / "hypersdkd", *map(str, arguments)], capture_output=True, text=True, check=False)


def client_of(daemon):
    return Client(f"unix:{daemon.state / 'hypersdkd.sock'}")


def submit(client, folder, name, **kw):
    spec = {"source_path": str(folder / "a.raw"), "target_path": str(folder / f"{name}.qcow2"), "format": "qcow2"}
    return client.jobs.create("convert", spec, job_id=name, **kw).name


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.raw").write_bytes(os.urandom(MIB))
    return tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_state_directory_refuses_changes_keeps_what_was_acknowledged_and_recovers_by_itself(source, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    daemon = Daemon(folder, "--max-runners", "1", "--log-level", "error")
    try:
        daemon.start(60)
        with client_of(daemon) as client:
            acknowledged = []
            refused = None
            for index in range(1000):
                try:
                    labels = {f"k{n}": "v" * 60 for n in range(60)}
                    acknowledged.append(submit(client, source, f"j{index}", labels=labels))
                except HyperError as exc:
                    refused = exc
                    break
            assert refused is not None
            assert refused.reason == "DISK_FULL"
            assert client.system.info().version  # it still answers
            assert {job.name for job in client.jobs.list()} == set(acknowledged)
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            acknowledged.append(submit(client, source, "after"))  # the same daemon, which nobody told
        daemon.kill()
        daemon.start(60)
        with client_of(daemon) as client:
            assert {job.name for job in client.jobs.list()} == set(acknowledged)
        assert daemon.stop() == 0
        with contextlib.closing(sqlite3.connect(daemon.state / "state.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        daemon.close()
        subprocess.run(["umount", "--lazy", folder], check=True)  # its last runner may still be on its way out


def test_a_copy_taken_under_load_holds_every_change_that_was_acknowledged_before_it(daemon, source, tmp_path):
    copy = tmp_path / "copy.db"
    with client_of(daemon) as client:
        client.jobs.pause(submit(client, source, "first"))
        writer = subprocess.Popen([sys.executable, "-c", f"""
from hypersdk.client import Client
with Client("unix:{daemon.state / 'hypersdkd.sock'}") as client:
    for n in range(10_000):
        client.connections.create(f"c{{n}}", "storage/local", {{"path": "/nowhere"}})
"""])  # fmt: skip
        try:
            while len(list(client.connections.list())) < 20:
                time.sleep(0.05)
            before = {c.name for c in client.connections.list()}
            done = hypersdkd("backup-state", copy, "--state-dir", daemon.state)
            assert done.returncode == 0, done.stderr
        finally:
            writer.kill()
            writer.wait()
    assert "1 jobs" in done.stdout
    found = sqlite3.connect(copy)
    assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert before <= {f"connections/{row[0]}" for row in found.execute("SELECT id FROM connections")}
    assert copy.stat().st_mode & 0o077 == 0
    assert not list(tmp_path.glob(".state-*"))
    again = hypersdkd("backup-state", copy, "--state-dir", daemon.state)
    assert (again.returncode, "BACKUP_EXISTS" in again.stderr) == (1, True)


def test_a_restored_copy_is_what_was_saved_and_the_old_state_is_kept(daemon, source, tmp_path):
    copy = tmp_path / "copy.db"
    with client_of(daemon) as client:
        client.jobs.wait(submit(client, source, "kept"), timeout_s=60)
        assert hypersdkd("backup-state", copy, "--state-dir", daemon.state).returncode == 0
        client.jobs.wait(submit(client, source, "later"), timeout_s=60)
    running = hypersdkd("restore-state", copy, "--state-dir", daemon.state)
    assert (running.returncode, "STATE_DIR_IN_USE" in running.stderr) == (6, True)
    assert daemon.stop() == 0
    (daemon.state / "audit" / "audit-000000000001.jsonl").write_text("of entries that will be others\n")
    done = hypersdkd("restore-state", copy, "--state-dir", daemon.state)
    assert done.returncode == 0, done.stderr
    assert not list((daemon.state / "audit").iterdir())
    daemon.start()
    with client_of(daemon) as client:
        assert [(j.name, j.state) for j in client.jobs.list()] == [("jobs/kept", JobState.JOB_STATE_SUCCEEDED)]
        # What was undone can be done again, from nothing: no journal of its former life is taken for it.
        assert client.jobs.wait(submit(client, source, "later"), timeout_s=60).attempt_count == 1
    (old,) = (p for p in daemon.state.glob("state.db.before-restore-*") if not p.name.endswith("-wal"))
    names = {row[0] for row in sqlite3.connect(old).execute("SELECT id FROM jobs")}
    assert names == {"kept", "later"}
    assert list(daemon.state.glob("runs.before-restore-*"))
    assert len(list(daemon.state.glob("audit.before-restore-*/audit-*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no database at all" * 100, "BACKUP_INVALID"), (b"", "BACKUP_INVALID"), (None, "BACKUP_INVALID")],
)
def test_what_is_no_copy_of_a_kernels_database_is_refused_and_nothing_is_touched(tmp_path, content, reason):
    state, bad = tmp_path / "state", tmp_path / "bad.db"
    if content is None:
        sqlite3.connect(bad).execute("CREATE TABLE jobs (id TEXT)").connection.close()
    else:
        bad.write_bytes(content)
    done = hypersdkd("restore-state", bad, "--state-dir", state)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    assert not state.exists()


def test_a_damaged_copy_is_refused(daemon, tmp_path):
    copy = tmp_path / "copy.db"
    assert hypersdkd("backup-state", copy, "--state-dir", daemon.state).returncode == 0
    data = bytearray(copy.read_bytes())
    for offset in range(8192, len(data), 4096):
        data[offset : offset + 64] = b"\xff" * 64
    copy.write_bytes(data)
    done = hypersdkd("restore-state", copy, "--state-dir", tmp_path / "other")
    assert done.returncode == 1
    assert "STATE_CORRUPT" in done.stderr


def test_a_copy_of_a_newer_version_is_refused(daemon, tmp_path):
    copy = tmp_path / "copy.db"
    assert hypersdkd("backup-state", copy, "--state-dir", daemon.state).returncode == 0
    with sqlite3.connect(copy) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    conn.close()
    done = hypersdkd("restore-state", copy, "--state-dir", tmp_path / "other")
    assert (done.returncode, "SCHEMA_TOO_NEW" in done.stderr) == (1, True)


def test_while_runners_of_the_old_state_live_it_is_not_replaced(daemon, source, tmp_path):
    copy = tmp_path / "copy.db"
    assert hypersdkd("backup-state", copy, "--state-dir", daemon.state).returncode == 0
    with client_of(daemon) as client:
        name = submit(client, source, "slow", bandwidth_limit_bytes=64 << 10)
        while client.jobs.get(name).state != JobState.JOB_STATE_RUNNING or not daemon.runners():
            time.sleep(0.05)
    daemon.kill()
    done = hypersdkd("restore-state", copy, "--state-dir", daemon.state)
    assert (done.returncode, "RUNNERS_ALIVE" in done.stderr) == (1, True), done.stderr


def test_postgresql_is_left_to_its_own_tools(tmp_path):
    done = hypersdkd("backup-state", tmp_path / "x", "--database", "postgresql://u@127.0.0.1:1/x")
    assert done.returncode == 1
    assert "BACKUP_UNSUPPORTED" in done.stderr
    assert "pg_dump" in done.stderr


@pytest.mark.parametrize("url", ["mysql://u@h/x", "postgresql://u:secret@h/x", "postgresql://u@h", "nonsense"])
def test_a_wrong_database_url_is_named_without_what_may_be_a_password(tmp_path, url):
    done = hypersdkd("--state-dir", tmp_path / "s", "--database", url)
    assert done.returncode == 2
    assert "CONFIG_INVALID" in done.stderr
    assert "secret" not in done.stderr


def test_a_server_that_is_not_there_is_told_at_the_start(tmp_path):
    done = hypersdkd("--state-dir", tmp_path / "s", "--database", "postgresql://u@127.0.0.1:1/x")
    assert done.returncode == 1
    assert "STORE_UNAVAILABLE" in done.stderr
    assert not Path(tmp_path / "s" / "state.db").exists()

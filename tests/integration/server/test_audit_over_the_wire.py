"""Every call that changes something leaves a row, refused ones too, and the trail proves itself."""

import json
import sqlite3
import time
import uuid

import pytest
from hypersdk.client import Client
from hypersdk.errors import AlreadyExists, HyperError, NotFound
from support.daemon import Daemon
from support.wheels import make_wheel


@pytest.fixture
def audited(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--probation-s", "1")
    try:
        yield made.start()
    finally:
        made.close()


def connect(daemon):
    return Client(f"unix:{daemon.state / 'hypersdkd.sock'}")


def rows(client, **kw):
    return [(e.actor, e.action, e.subject, e.outcome) for e in client.audit.list(**kw)]


def make_connection(client, folder, name="lab", **kw):
    return client.connections.create(name, component="storage/local", config={"path": str(folder)}, **kw)


def test_changes_refusals_and_what_happens_to_plugins_are_written_down(audited, tmp_path):
    with connect(audited) as client:
        before = len(rows(client))
        make_connection(client, tmp_path)
        with pytest.raises(AlreadyExists):
            make_connection(client, tmp_path)
        with pytest.raises(NotFound):
            client.jobs.cancel("jobs/none")
        with pytest.raises(HyperError):
            client.plugins.upload(make_wheel(tmp_path, "1.0", files={"../out.py": ""}))
        client.plugins.upload(make_wheel(tmp_path, "1.0"))
        client.plugins.uninstall("plugins/format-swapped")
        client.connections.delete("connections/lab")
        list(client.connections.list())
    audited.stop()
    audited.start()
    with connect(audited) as client:
        found = rows(client)[before:]
        wheel = "hypersdk_format_swapped-1.0-py3-none-any.whl"
        generation = "plugins/format-swapped/generations/1"
        assert [row for row in found if row[3] == "OK" and row[0] != "kernel"] == [  # it drains when it does
            ("local", "ConnectionService.CreateConnection", "connections/lab", "OK"),
            ("local", "plugin.installed", generation, "OK"),
            ("local", "PluginService.UploadPlugin", wheel, "OK"),
            ("local", "plugin.activated", generation, "OK"),
            ("local", "plugin.uninstalled", generation, "OK"),
            ("local", "PluginService.UninstallPlugin", "plugins/format-swapped", "OK"),
            ("local", "ConnectionService.DeleteConnection", "connections/lab", "OK"),
        ]
        assert {row[1:] for row in found if row[3] != "OK"} == {
            ("ConnectionService.CreateConnection", "", "CONNECTION_EXISTS"),
            ("JobService.CancelJob", "jobs/none", "JOB_NOT_FOUND"),
            ("PluginService.UploadPlugin", wheel, "WHEEL_INVALID"),
        }
        assert client.audit.verify().ok


def test_a_request_that_only_asks_is_not_written_down_and_a_wrong_token_is(audited, tmp_path):
    with connect(audited) as client:
        before = rows(client)
        make_connection(client, tmp_path, validate_only=True)
        assert rows(client) == before
    (tmp_path / "wrong").write_text("x" * 43)
    (tmp_path / "wrong").chmod(0o600)
    address = (audited.state / "address").read_text().strip()
    audited.hyperctl(
        "--address", address, "connection", "delete", "lab", check=False,
        HYPERSDK_TOKEN_FILE=str(tmp_path / "wrong"), HYPERSDK_CA_FILE=str(audited.state / "tls" / "ca.pem"),
    )  # fmt: skip
    audited.stop()
    audited.start()
    with connect(audited) as client:
        assert rows(client)[len(before) :] == [
            ("unauthenticated", "ConnectionService.DeleteConnection", "", "TOKEN_WRONG")
        ]


def test_the_command_line_lists_exports_verifies_and_names_the_first_bad_row(audited, tmp_path):
    with connect(audited) as client:
        for number in range(5):
            make_connection(client, tmp_path, name=f"lab{number}", request_id=str(uuid.uuid4()))
    listed = audited.hyperctl("audit", "list", "--filter", 'subject = "connections/lab3"').stdout
    assert "ConnectionService.CreateConnection" in listed
    exported = [json.loads(line) for line in audited.hyperctl("audit", "export").stdout.splitlines()]
    assert [e["seq"] for e in exported] == list(range(1, len(exported) + 1))
    head = json.loads(audited.hyperctl("audit", "verify", "-o", "json").stdout)
    assert head["ok"]
    anchor = f"{head['head_seq']}:{head['head_hash']}"
    audited.hyperctl("audit", "verify", "--anchor", anchor)
    bad = next(e["seq"] for e in exported if e["subject"] == "connections/lab2")
    database = sqlite3.connect(audited.state / "state.db")
    with database:
        database.execute("UPDATE audit SET actor = 'someone' WHERE seq = ?", (bad,))
    database.close()
    done = audited.hyperctl("audit", "verify", check=False)
    assert done.returncode == 1
    assert f"audit entry {bad}" in done.stderr
    assert audited.hyperctl("audit", "verify", "--anchor", "nonsense", check=False).returncode == 2


def test_entries_beyond_those_kept_are_archived_and_proved_with_and_without_the_daemon(audited, tmp_path):
    audited.flags += ("--audit-keep-rows", "3")
    with connect(audited) as client:
        for number in range(6):
            make_connection(client, tmp_path, name=f"lab{number}")
        head = client.audit.verify()
    audited.stop()
    audited.start()
    folder = audited.state / "audit"
    deadline = time.monotonic() + 20
    with connect(audited) as client:
        while client.audit.verify().first_seq == 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(list(client.audit.list())) == 3
        assert client.audit.verify(archives=True).verified_count == head.head_seq
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    whole = json.loads(audited.hyperctl("audit", "verify", "--archives", "-o", "json").stdout)
    assert (whole["ok"], whole["head_hash"]) == (True, head.head_hash)
    told = json.loads(audited.hyperctl("audit", "verify", "--offline", folder, "-o", "json").stdout)
    assert (told["ok"], told["first_seq"], told["head_seq"]) == (True, 1, head.head_seq - 3)
    anchor = f"{told['head_seq']}:{told['head_hash']}"
    audited.hyperctl("audit", "verify", "--anchor", anchor)
    audited.hyperctl("audit", "verify", "--offline", file, "--anchor", anchor)
    file.write_bytes(file.read_bytes().replace(b"connections/lab1", b"connections/lab9"))
    for how in (("--archives",), ("--offline", folder)):
        done = audited.hyperctl("audit", "verify", *how, check=False)
        assert done.returncode == 1
        assert "not what was hashed" in done.stderr
    assert audited.hyperctl("audit", "verify", "--offline", tmp_path / "none", check=False).returncode != 0

"""Events on their way out of a real daemon: through a plugin's host, over HTTP, to a server of the test's own."""

import base64
import hashlib
import hmac
import json
import os
import signal
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypersdk.client import Client
from hypersdk.errors import FailedPrecondition, InvalidArgument, NotFound

KEY = "planted-signing-key-7f3a9"


class Sink:
    """Takes what is POSTed while `status` is 204."""

    def __init__(self):
        self.taken = []
        self.status = 204
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if sink.status == 204:
                    sink.taken.append((dict(self.headers), body))
                self.send_response_only(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def events(self):
        return [json.loads(body) for _, body in self.taken]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def sink():
    made = Sink()
    yield made
    made.close()


def until(predicate, timeout_s=30.0):
    deadline = time.monotonic() + timeout_s
    while not predicate():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def subscribe(client, sink, key_file, name="ops", **kw):
    config = {"url": sink.url, "allow_http": True, "allow_private": True, "secret": f"file:{key_file}"}
    client.connections.create(f"{name}-hook", "notifier/webhook", config)
    return client.subscriptions.create(name, f"connections/{name}-hook", **kw)


def happen(client, count=1):
    """Something that the log tells of."""
    made = []
    for _ in range(count):
        name = f"store-{uuid.uuid4().hex[:8]}"
        client.connections.create(name, "storage/local", {"path": "/srv/x"}, labels={"team": "blue"})
        made.append(f"connections/{name}")
    return made


@pytest.fixture
def client(start):
    daemon = start("--no-tcp")
    daemon.wait_ready()
    with Client(f"unix:{daemon.state}/hypersdkd.sock") as made:
        made.daemon = daemon
        yield made


def test_an_event_arrives_signed_and_only_those_that_are_wanted(client, sink, key_file):
    wanted = 'type = "connection.created" AND labels.team = "blue" AND subject != "connections/ops-hook"'
    made = subscribe(client, sink, key_file, filter=wanted)
    assert made.revision <= made.last_revision
    (name,) = happen(client)
    client.connections.delete(name)
    until(lambda: sink.taken)
    headers, body = sink.taken[0]
    document = json.loads(body)
    assert (document["type"], document["subject"]) == ("dev.hypersdk.connection.created", name)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    happen(client)
    until(lambda: len(sink.taken) == 2)
    until(lambda: client.subscriptions.get("subscriptions/ops").delivered_count == 2)


def test_what_is_refused_is_a_dead_letter_until_it_is_told_once_more(client, sink, key_file):
    subscribe(client, sink, key_file, filter='type = "connection.created"')
    sink.status = 410
    happen(client, 3)
    until(lambda: client.subscriptions.get("subscriptions/ops").dead_letter_count == 3)
    letters = list(client.subscriptions.dead_letters("subscriptions/ops", page_size=2))
    assert [letter.error.reason for letter in letters] == ["WEBHOOK_REFUSED"] * 3
    sink.status = 204
    assert client.subscriptions.redeliver("subscriptions/ops", dead_letters=[letters[1].name]) == 1
    until(lambda: sink.taken)
    assert sink.events()[0]["id"] == letters[1].delivery_id
    assert client.subscriptions.redeliver("subscriptions/ops", all_dead_letters=True) == 2
    until(lambda: client.subscriptions.get("subscriptions/ops").dead_letter_count == 0)
    assert {event["id"] for event in sink.events()} == {letter.delivery_id for letter in letters}


def test_a_test_is_sent_at_once_and_a_refusal_is_an_answer(client, sink, key_file):
    subscribe(client, sink, key_file, paused=True)
    assert client.subscriptions.test("subscriptions/ops").ok
    assert sink.events()[0]["type"] == "dev.hypersdk.notification.test"
    sink.status = 404
    answer = client.subscriptions.test("subscriptions/ops")
    assert (answer.ok, answer.details["reason"]) == (False, "WEBHOOK_REFUSED")


def test_a_killed_daemon_loses_nothing_and_repeats_under_the_same_ids(client, start, sink, key_file):
    """RELIABILITY row 1, for deliveries."""
    subscribe(client, sink, key_file, filter='type = "connection.created"')
    names = happen(client, 40)
    until(lambda: len(sink.taken) >= 5)
    os.kill(client.daemon.process.pid, signal.SIGKILL)
    client.daemon.process.wait(10)
    again = start("--no-tcp", state=client.daemon.state)
    again.wait_ready()
    until(lambda: {event["subject"] for event in sink.events()} >= set(names))
    ids = {}
    for event in sink.events():
        assert ids.setdefault(event["subject"], event["id"]) == event["id"]


def test_a_connection_that_is_told_through_cannot_be_deleted(client, sink, key_file):
    subscribe(client, sink, key_file)
    with pytest.raises(FailedPrecondition) as caught:
        client.connections.delete("connections/ops-hook")
    assert caught.value.reason == "CONNECTION_IN_USE"
    client.subscriptions.delete("subscriptions/ops")
    client.connections.delete("connections/ops-hook")


def test_bad_requests_are_refused(client, sink, key_file):
    subscribe(client, sink, key_file)
    happen(client)
    store = next(c.name for c in client.connections.list() if c.component == "storage/local")
    for call, error, reason in (
        (lambda: client.subscriptions.create("x", store), InvalidArgument, "NOTIFIER_REQUIRED"),
        (lambda: client.subscriptions.create("x", "connections/none"), FailedPrecondition, "CONNECTION_NOT_FOUND"),
        (lambda: client.subscriptions.update("subscriptions/ops", filter="("), InvalidArgument, "FILTER_INVALID"),
        (lambda: client.subscriptions.redeliver("subscriptions/ops"), InvalidArgument, "VALUE_INVALID"),
        (lambda: client.subscriptions.get("subscriptions/none"), NotFound, "SUBSCRIPTION_NOT_FOUND"),
        (
            lambda: client.subscriptions.redeliver(
                "subscriptions/ops", dead_letters=["subscriptions/ops/deadLetters/event-999999"]
            ),
            NotFound, "DEAD_LETTER_NOT_FOUND",
        ),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            call()
        assert caught.value.reason == reason


def test_the_signing_key_is_nowhere_but_in_its_file(client, sink, key_file):
    """RELIABILITY row 27."""
    subscribe(client, sink, key_file)
    happen(client)
    sink.status = 500
    happen(client)
    until(lambda: client.subscriptions.get("subscriptions/ops").attempt_count)
    client.subscriptions.test("subscriptions/ops")
    files = [path for path in client.daemon.state.rglob("*") if path.is_file()]
    assert [str(path) for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY.encode() not in client.daemon.log.read_bytes()
    told = json.dumps([str(event) for event in client.events.list()])
    assert KEY not in told
    for child in os.listdir("/proc"):
        if child.isdigit():
            for name in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{child}/{name}", "rb") as file:
                        assert KEY.encode() not in file.read()
                except (PermissionError, FileNotFoundError, ProcessLookupError):
                    continue


def test_the_command_line_does_it_all(client, sink, key_file, monkeypatch, capsys):
    from hyperctl.__main__ import main

    monkeypatch.setenv("HYPERSDK_ADDRESS", f"unix:{client.daemon.state}/hypersdkd.sock")
    config = {"url": sink.url, "allow_http": True, "allow_private": True}
    client.connections.create("hook", "notifier/webhook", config)

    def run(*arguments):
        status = main(["subscription", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    create = ["create", "ops", "-c", "hook", "--events", 'type = "connection.created"', "--attempts", "3"]
    assert run(*create, "--retry-delay", "100ms", "--dry-run")[2] == "subscriptions/ops would be created\n"
    assert run(*create, "--retry-delay", "100ms")[2] == "subscriptions/ops created\n"
    assert json.loads(run("get", "ops", "-o", "json")[1])["retry_policy"]["max_attempts"] == 3
    assert run("update", "ops", "--attempts", "3", "--retry-delay", "100ms", "--retry-strategy", "fibonacci")[0] == 0
    assert json.loads(run("get", "ops", "-o", "json")[1])["retry_policy"]["strategy"] == "FIBONACCI"
    assert run("test", "ops")[0] == 0
    assert run("pause", "ops")[2] == "subscriptions/ops paused\n"
    assert run("list")[1].splitlines()[1].split()[:3] == ["subscriptions/ops", "PAUSED", "connections/hook"]
    sink.status = 400
    happen(client, 2)
    assert run("resume", "ops", "-o", "name")[1] == "subscriptions/ops\n"
    until(lambda: client.subscriptions.get("subscriptions/ops").dead_letter_count == 2)
    status, out, _ = run("dead-letters", "ops")
    assert (status, len(out.splitlines())) == (0, 3)
    assert run("test", "ops")[0] == 7
    sink.status = 204
    letter = out.splitlines()[1].split()[0].rpartition("/")[2]
    assert "1 dead letters will be" in run("redeliver", "ops", letter)[2]
    until(lambda: client.subscriptions.get("subscriptions/ops").dead_letter_count == 1)
    assert "1 dead letters would be" in run("redeliver", "ops", "--all", "--dry-run")[2]
    assert run("redeliver", "ops")[0] == 2
    assert run("redeliver", "ops", "--since", "0", "--all")[0] == 2
    assert run("update", "ops", "--events", "", "--label", "team=blue")[0] == 0
    assert client.subscriptions.get("subscriptions/ops").labels == {"team": "blue"}
    assert run("delete", "ops")[2] == "subscriptions/ops deleted\n"
    assert run("get", "ops")[0] == 5

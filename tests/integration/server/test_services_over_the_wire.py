"""Service processes of a real daemon: started, restarted, swapped and stopped, seen by their clients."""

import os
import signal
import socket
import threading
import time

import pytest
from hypersdk.client import Client
from hypersdk.errors import InvalidArgument, NotFound
from support.daemon import Daemon
from support.wheels import make_wheel

ECHO = """
import os, threading
from hypersdk.plugin import Service


class Plugin(Service):
    def configure(self, config, secrets):
        self.greeting = config.get("greeting", "")

    def run(self, context):
        @problem
        listener = context.listeners["listen"]
        listener.settimeout(0.05)
        context.log("info", "echo_started", token=context.token)
        print("my token is", context.token)
        context.ready()
        while not context.stopping.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client:
                client.settimeout(5)
                word = client.recv(100).decode()
                if word == "die":
                    os._exit(3)
                if word == "whoami":
                    client.sendall(self.whoami(context).encode())
                    continue
                client.sendall(f"@version {self.greeting} {os.getpid()}".encode())

    def whoami(self, context):
        import grpc
        from hypersdk.api.connections.v1 import connections_pb2, connections_pb2_grpc

        stub = connections_pb2_grpc.ConnectionServiceStub(grpc.insecure_channel(context.address))
        made = connections_pb2.Connection(component="service/echo")
        request = connections_pb2.CreateConnectionRequest(connection_id="made", connection=made)
        metadata = (("authorization", "Bearer " + context.token),)
        return stub.CreateConnection(request, metadata=metadata, timeout=10).name
"""
MANIFEST = {
    "manifest_version": 1, "name": "hypersdk-service-echo", "api_version": "1.1", "summary": "Says who it is",
    "components": {"service/echo": {"capabilities": ["run"], "network": ["unix"], "config_schema": {
        "type": "object", "additionalProperties": False,
        "properties": {"listen": {"type": "string", "listen": True}, "greeting": {"type": "string"}},
    }}},
}  # fmt: skip
PLUGIN = "plugins/service-echo"


def wheel(folder, version, problem="pass"):
    return str(
        make_wheel(
            folder, version, distribution="hypersdk-service-echo", kind="service", component="echo",
            code=ECHO.replace("@problem", problem), manifest=MANIFEST,
        )
    )  # fmt: skip


@pytest.fixture
def running(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    made = Daemon(folder, "--probation-s", "3")
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def client(running):
    with Client(f"unix:{running.state / 'hypersdkd.sock'}") as client:
        yield client


def until(check, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
    return found


def health(client):
    return client.plugins.check_health(PLUGIN)


def serving(client, version=""):
    def check():
        found = health(client)
        right = found.services and found.services[0].state == 3 and found.services[0].addresses
        return found.services[0] if right and (not version or version in ask(found.services[0])) else None

    return until(check)


def ask(status, word="hello"):
    host, _, port = status.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.settimeout(20)
        connection.sendall(word.encode())
        return connection.recv(200).decode()


@pytest.fixture
def echo(client, tmp_path):
    client.plugins.install(wheel(tmp_path, "1.0"))
    client.connections.create("echo", "service/echo", {"listen": "127.0.0.1:0", "greeting": "hi"})
    return serving(client)


def test_it_runs_when_its_connection_is_there_and_tells_where(client, echo):
    assert echo.connection == "connections/echo"
    assert echo.generation == f"{PLUGIN}/generations/1"
    assert ask(echo).startswith("1.0 hi ")


def test_its_token_names_it_as_the_actor_and_is_in_no_log(client, running, echo):
    assert ask(echo, "whoami") == "connections/made"
    created = [e for e in client.events.list() if e.subject == "connections/made"]
    assert created[0].actor == "service/echo"
    assert "my token is [redacted]" in running.log
    assert "echo_started" in running.log


def test_a_crashed_one_comes_back_and_its_clients_wait_instead_of_being_refused(client, echo):
    os.kill(echo.pid, signal.SIGKILL)
    assert ask(echo).startswith("1.0 hi ")
    again = until(lambda: s if (s := health(client).services[0]).pid not in {0, echo.pid} else None)
    assert again.restart_count == 1


def test_a_swap_refuses_no_client(client, tmp_path, echo):
    answers, failures, stop = [], [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                answers.append(ask(echo).split()[0])
            except OSError as exc:
                failures.append(exc)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in ("2.0", "3.0"):
        client.plugins.install(wheel(tmp_path, version))
        until(lambda version=version: answers and answers[-1] == version)
    until(lambda: answers[-20:].count("3.0") == 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert not [f for f in failures if isinstance(f, ConnectionRefusedError)]
    assert len(failures) == 0, failures[:3]
    assert serving(client).pid != echo.pid


def test_a_version_that_does_not_get_ready_leaves_the_old_one_serving_and_is_rolled_back(client, tmp_path, echo):
    client.plugins.install(wheel(tmp_path, "2.0", 'raise RuntimeError("not today")'))
    until(lambda: client.plugins.get(PLUGIN).active_generation.version == "1.0")
    assert ask(echo).startswith("1.0 hi ")
    assert health(client).services[0].pid == echo.pid


def test_a_changed_connection_is_taken_over(client, echo):
    client.connections.update("connections/echo", config={"listen": "127.0.0.1:0", "greeting": "good morning"})
    until(lambda: "good morning" in ask(health(client).services[0]))


def test_it_is_switched_off_by_its_label_and_by_being_deleted(client, echo):
    client.connections.update("connections/echo", labels={"hypersdk.dev/enabled": "false"})
    until(lambda: not health(client).services)
    with pytest.raises(OSError, match="refused"):
        ask(echo)
    client.connections.update("connections/echo", labels={"hypersdk.dev/enabled": "true"})
    pid = serving(client).pid
    client.connections.delete("connections/echo")
    until(lambda: not health(client).services)
    assert not os.path.exists(f"/proc/{pid}")


def test_an_uninstall_ends_it_before_its_files_go(client, running, echo):
    code = next(running.state.rglob("hypersdk_service_echo/__init__.py"))
    client.plugins.uninstall(PLUGIN)
    until(lambda: not code.exists())
    assert not os.path.exists(f"/proc/{echo.pid}")
    with pytest.raises(NotFound):
        client.plugins.get(PLUGIN)
    assert client.connections.get("connections/echo").component == "service/echo"


def test_one_that_cannot_listen_says_so(client, tmp_path, echo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        client.connections.create("second", "service/echo", {"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        found = until(lambda: [s for s in health(client).services if s.last_error])
    assert "cannot listen" in found[0].last_error
    assert not health(client).ok
    assert ask(echo)


def test_it_ends_with_the_daemon_and_starts_with_it(client, running, echo):
    assert running.stop() == 0
    assert not os.path.exists(f"/proc/{echo.pid}")
    running.start()
    with Client(f"unix:{running.state / 'hypersdkd.sock'}") as again:
        new = serving(again)
        assert ask(new).startswith("1.0 hi ")
        running.kill()
        until(lambda: not os.path.exists(f"/proc/{new.pid}"))


def test_it_needs_no_connection_of_a_wrong_kind(client):
    with pytest.raises(InvalidArgument):
        client.connections.create("x", "service/nobody", {})

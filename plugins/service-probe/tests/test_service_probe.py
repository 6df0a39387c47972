"""service/probe against the suite of its kind, and what it answers."""

import socket
import urllib.error
import urllib.request
from concurrent import futures
from typing import ClassVar

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.service_contract import LocalServiceContext, RunningService, ServiceContract
from hypersdk_service_probe import MAX_CLIENTS, Probe


def get(context, path="/healthz", method="GET"):
    host, port = context.listeners["listen"].getsockname()[:2]
    request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode().strip()


def new_probe(**config):
    probe = Probe()
    probe.configure({"listen": "127.0.0.1:0", **config}, {})
    return probe


class TestProbe(ServiceContract):
    @pytest.fixture
    def new_service(self):
        return new_probe

    @pytest.fixture
    def listeners(self):
        return ("listen",)

    @pytest.fixture
    def works(self):
        def works(context):
            assert get(context, "/livez") == (200, "SERVING")

        return works


class TestManifest(ManifestContract):
    distribution_name = "hypersdk-service-probe"
    package = "hypersdk_service_probe"
    good: ClassVar = {"service/probe": [{"listen": "127.0.0.1:8080"}, {"listen": "[::]:80", "timeout_s": 1}]}
    bad: ClassVar = {"service/probe": [{}, {"listen": 80}, {"listen": "a:1", "timeout_s": 0}, {"listen": "", "x": 1}]}


@pytest.fixture
def daemon(tmp_path):
    """The health service of a daemon, and nothing else."""
    servicer = health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    servicer.address = f"unix:{tmp_path}/s"
    server.add_insecure_port(servicer.address)
    server.start()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    yield servicer
    server.stop(0).wait()


@pytest.fixture
def running(daemon):
    context = LocalServiceContext({"listen": socket.create_server(("127.0.0.1", 0))}, daemon.address)
    started = RunningService(new_probe(timeout_s=0.5), context).start()
    yield started
    started.stop()


def test_it_says_what_the_daemon_says(running, daemon):
    assert get(running.context) == (200, "SERVING")
    daemon.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert get(running.context) == (503, "NOT_SERVING")
    assert get(running.context, "/livez") == (200, "SERVING")


def test_a_daemon_that_is_away_is_a_503():
    context = LocalServiceContext({"listen": socket.create_server(("127.0.0.1", 0))})
    started = RunningService(new_probe(timeout_s=0.5), context).start()
    assert get(context)[0] == 503
    started.stop()


def test_nothing_else_is_told(running):
    assert get(running.context, "/")[0] == 404
    assert get(running.context, "/healthz?x=1")[0] == 200
    assert get(running.context, "/healthz", "HEAD") == (200, "")
    assert get(running.context, "/healthz", "POST")[0] == 501


def test_silent_clients_keep_nobody_out_for_long(running):
    address = running.context.listeners["listen"].getsockname()
    silent = [socket.create_connection(address) for _ in range(MAX_CLIENTS)]
    try:
        late = socket.create_connection(address)
        late.settimeout(5)
        late.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert late.recv(100) == b""  # turned away at once, not left to wait
        late.close()
    finally:
        for one in silent:
            one.close()

"""The daemon as its owner meets it: who may come in, what lies in its directory, how it starts, stops and refuses."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.api.plugins.v1 import plugins_pb2, plugins_pb2_grpc
from hypersdk.api.system.v1 import system_pb2, system_pb2_grpc


def info(channel):
    return system_pb2_grpc.SystemServiceStub(channel).GetSystemInfo(system_pb2.GetSystemInfoRequest(), timeout=10)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_owner_is_let_in_by_the_socket_and_by_the_token(daemon):
    with daemon.unix() as unix, daemon.tcp() as tcp:
        assert info(unix).pid == info(tcp).pid == daemon.process.pid
        assert info(unix).addresses[0] == f"unix:{daemon.state}/hypersdkd.sock"


def test_a_wrong_token_is_refused_then_throttled_while_the_right_one_still_works(start, refused):
    daemon = start()
    daemon.wait_ready()
    with daemon.tcp(token="x" * 43) as stranger, daemon.tcp() as owner:
        answers = [refused(info, stranger) for _ in range(14)]
        assert answers[0]["reason"] == "TOKEN_WRONG"
        assert answers[-1]["reason"] == "AUTHENTICATION_THROTTLED"
        assert answers[-1]["retry"] > 0
        assert info(owner).version


def test_plaintext_on_the_tcp_port_gets_nothing(daemon):
    address = (daemon.state / "address").read_text().strip()
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        info(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_what_it_keeps_is_readable_by_its_owner_only(daemon):
    assert mode(daemon.state) == 0o700
    for name in ("hypersdkd.sock", "token", "lock", "tls/ca.key", "tls/server.key"):
        assert mode(daemon.state / name) == 0o600, name


def test_a_second_daemon_refuses_and_names_the_first(daemon, start):
    second = start(state=daemon.state)
    assert second.process.wait(20) == 6
    text = daemon.log.read_text()
    assert "STATE_DIR_IN_USE" in text
    assert f"pid {daemon.process.pid}" in text
    with daemon.unix() as channel:
        assert info(channel).pid == daemon.process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_and_leaves_no_socket(start, number):
    daemon = start()
    daemon.wait_ready()
    assert daemon.stop(number) == 0
    assert not (daemon.state / "hypersdkd.sock").exists()
    assert not (daemon.state / "hypersdkd.pid").exists()
    assert "kernel_stopped" in daemon.log.read_text()


def test_a_hangup_is_ignored(start):
    daemon = start("--no-tcp")
    daemon.wait_ready()
    os.kill(daemon.process.pid, signal.SIGHUP)
    with daemon.unix() as channel:
        assert info(channel).pid == daemon.process.pid


def test_it_starts_again_where_a_killed_one_left_its_socket_and_lock(start):
    first = start()
    first.wait_ready()
    first.process.kill()
    first.process.wait()
    assert (first.state / "hypersdkd.sock").exists()
    second = start(state=first.state)
    second.wait_ready()
    with second.unix() as channel:
        assert info(channel).pid == second.process.pid


def test_a_path_too_long_for_a_socket_is_refused_with_the_way_out(start, tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.parent.mkdir(parents=True)
    daemon = start(state=deep)
    assert daemon.process.wait(20) == 2
    text = daemon.log.read_text()
    assert "SOCKET_PATH_TOO_LONG" in text
    assert "--state-dir" in text


def test_a_state_directory_that_others_may_write_to_is_refused(start, tmp_path):
    state = tmp_path / "s"
    state.mkdir()
    state.chmod(0o770)
    daemon = start(state=state)
    assert daemon.process.wait(20) == 1
    assert "STATE_DIR_UNSAFE" in daemon.log.read_text()


def test_a_port_in_use_is_refused_by_name(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = start("--tcp-port", str(taken.getsockname()[1]))
        assert daemon.process.wait(20) == 1
    assert "ADDRESS_UNAVAILABLE" in daemon.log.read_text()


def test_a_wrong_setting_is_refused_by_name(start):
    daemon = start("--max-runners", "many")
    assert daemon.process.wait(20) == 2
    assert "max_runners" in daemon.log.read_text()


def test_streams_end_on_shutdown_with_a_status_that_says_resume(start, refused):
    daemon = start()
    daemon.wait_ready()
    with daemon.unix() as channel:
        events = events_pb2_grpc.EventServiceStub(channel).WatchEvents(events_pb2.WatchEventsRequest())
        jobs = jobs_pb2_grpc.JobServiceStub(channel).WatchJobs(jobs_pb2.WatchJobsRequest())
        health = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )(health_pb2.HealthCheckRequest())
        next(events), next(jobs)
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        started = time.monotonic()
        stopper = threading.Thread(target=daemon.stop)
        stopper.start()
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for stream in (events, jobs):
            answer = refused(list, stream)
            assert (answer["code"], answer["reason"]) == (grpc.StatusCode.UNAVAILABLE, "KERNEL_STOPPING")
        stopper.join()
        assert time.monotonic() - started < 5.0
    assert daemon.process.returncode == 0


def test_a_silent_stream_beats(daemon):
    with daemon.unix() as channel:
        stream = events_pb2_grpc.EventServiceStub(channel).WatchEvents(events_pb2.WatchEventsRequest(), timeout=10)
        beats = [next(stream) for _ in range(3)]
        stream.cancel()
    assert not any(beat.HasField("event") for beat in beats)


def test_a_revision_that_never_was_is_out_of_range(daemon, refused):
    with daemon.unix() as channel:
        request = events_pb2.WatchEventsRequest(since_revision=10**12)
        answer = refused(events_pb2_grpc.EventServiceStub(channel).WatchEvents, request, timeout=10)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.OUT_OF_RANGE, "REVISION_GONE")


def test_too_many_streams_are_refused(start, refused):
    daemon = start("--max-streams", "2", "--no-tcp")
    daemon.wait_ready()
    with daemon.unix() as one, daemon.unix() as two, daemon.unix() as three:
        open_streams = [
            events_pb2_grpc.EventServiceStub(c).WatchEvents(events_pb2.WatchEventsRequest()) for c in (one, two)
        ]
        for stream in open_streams:
            next(stream)
        watch = events_pb2_grpc.EventServiceStub(three).WatchEvents
        answer = refused(watch, events_pb2.WatchEventsRequest(), timeout=10)
        assert (answer["code"], answer["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert info(three).pid == daemon.process.pid


def test_reflection_and_health_know_every_service_domain_services_too(daemon):
    with daemon.unix() as channel:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked])))
        names = {service.name for service in answer.list_services_response.service}
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for name in names - {"grpc.reflection.v1alpha.ServerReflection", "grpc.health.v1.Health"}:
            assert check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    assert {"hypersdk.api.jobs.v1.JobService", "hypersdk.api.inventory.v1.InventoryService"} <= names
    assert "google.longrunning.Operations" in names


def test_reflection_over_tcp_needs_the_token(daemon, refused):
    with daemon.tcp(token="") as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        answer = refused(ask, iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert answer["code"] in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_an_operation_of_no_job_is_not_found(daemon, refused):
    with daemon.unix() as channel:
        call = channel.unary_unary("/google.longrunning.Operations/GetOperation")
        answer = refused(call, operations_pb2.GetOperationRequest(name="operations/nope").SerializeToString())
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_plugins_are_listed_in_pages(daemon):
    with daemon.unix() as channel:
        stub = plugins_pb2_grpc.PluginServiceStub(channel)
        whole = [p.name for p in stub.ListPlugins(plugins_pb2.ListPluginsRequest()).plugins]
        paged, token = [], ""
        while True:
            answer = stub.ListPlugins(plugins_pb2.ListPluginsRequest(page_size=2, page_token=token))
            paged += [p.name for p in answer.plugins]
            token = answer.next_page_token
            if not token:
                break
    assert paged == whole
    assert whole


def test_the_log_is_json_a_line(daemon):
    lines = daemon.log.read_text().splitlines()
    assert all(json.loads(line)["event"] for line in lines if line.startswith("{"))
    assert any('"kernel_started"' in line for line in lines)


def test_a_service_manager_is_told_when_it_is_ready(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "hypersdk_kernel.server", "--state-dir", str(tmp_path / "s"), "--no-tcp"],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "n")}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert manager.recv(100) == b"READY=1"
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()

"""The wrapper around every method, in a real gRPC server with a service of the test's own."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.api.jobs.v1 import jobs_pb2_grpc
from hypersdk.errors import NotFound, Unavailable
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.security.authn import Authenticator
from hypersdk_kernel.server.listeners import listen_unix, make_server
from hypersdk_kernel.server.methods import Gate, service_handlers
from hypersdk_kernel.server.streams import Streams
from hypersdk_kernel.server.validation import RequestValidator
from hypersdk_kernel.services.call import Service

NAME = "jobs/a"


class Probe(Service):
    """Answers GetJob with what `answer` does, and streams for ever."""

    descriptor = pb.DESCRIPTOR.services_by_name["JobService"]
    unserved = frozenset(
        m.name for m in descriptor.methods if m.name not in {"GetJob", "CancelJob", "WatchJobs"}
    )

    def __init__(self) -> None:
        self.calls = []
        self.answer = lambda: pb.Job(name=NAME)
        self.streams_closed = 0

    async def get_job(self, request, call):
        self.calls.append(call)
        found = self.answer()
        return await found if asyncio.iscoroutine(found) else found

    cancel_job = get_job

    async def watch_jobs(self, request, call):
        try:
            for number in range(request.since_revision, 10**9):
                yield pb.WatchJobsResponse(revision=number, event_type="x" * 1000)
                await asyncio.sleep(0)
        finally:
            self.streams_closed += 1


@pytest.fixture
def probe():
    return Probe()


@pytest.fixture
def gate():
    return Gate(Authenticator(None, ManualClock()), RequestValidator(), Streams(2), 0.3, 64 << 10)


@pytest.fixture
async def stub(tmp_path, probe, gate):
    server = make_server([service_handlers(gate, probe)], max_message_bytes=64 << 10, max_streams=2)
    address = listen_unix(server, tmp_path / "s")
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield jobs_pb2_grpc.JobServiceStub(channel)
    await server.stop(0)


def status_in(error) -> Status:
    return Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])


async def refusal(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    status = status_in(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return error, info


async def test_a_call_knows_its_actor_and_its_time(stub, probe):
    assert (await stub.GetJob(pb.GetJobRequest(name=NAME), timeout=5)).name == NAME
    await stub.GetJob(pb.GetJobRequest(name=NAME))
    assert [call.actor for call in probe.calls] == ["local", "local"]
    assert probe.calls[0].timeout_s == pytest.approx(5, abs=1)
    assert probe.calls[1].timeout_s == 0.3
    assert probe.calls[0].key is None


async def test_a_request_id_becomes_a_key_that_depends_on_the_request_alone(stub, probe):
    request_id = "0B7F2B2E-5d1a-4f0e-9d5c-0c8a4a3d2e11"
    for etag in ("x", "x", "y"):
        await stub.CancelJob(pb.CancelJobRequest(name=NAME, request_id=request_id, etag=etag))
    first, second, third = (call.key for call in probe.calls)
    assert first == second
    assert first.request_id == request_id.lower()
    assert len(first.digest) == 32
    assert third.digest != first.digest


async def test_an_error_of_the_tree_keeps_its_class_and_reason(stub, probe):
    async def fail():
        raise NotFound("there is none", reason="JOB_NOT_FOUND", metadata={"name": NAME})

    probe.answer = fail
    error, info = await refusal(stub.GetJob(pb.GetJobRequest(name=NAME)))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert error.details() == "there is none"
    assert (info.reason, info.metadata["name"]) == ("JOB_NOT_FOUND", NAME)


async def test_an_unexpected_exception_shows_an_id_and_nothing_of_itself(stub, probe):
    async def fail():
        raise RuntimeError("secret of the house")

    probe.answer = fail
    error, info = await refusal(stub.GetJob(pb.GetJobRequest(name=NAME)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert info.reason == "UNEXPECTED_EXCEPTION"
    assert "secret" not in str(error.details()) + str(error.debug_error_string())
    assert info.metadata["error_id"] in error.details()


async def test_a_call_without_a_deadline_gets_the_servers(stub, probe):
    probe.answer = lambda: asyncio.sleep(30)
    error, info = await refusal(stub.GetJob(pb.GetJobRequest(name=NAME)))
    assert (error.code(), info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "CALL_TIMEOUT")


async def test_the_clients_deadline_ends_the_work(stub, probe):
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    probe.answer = work
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetJob(pb.GetJobRequest(name=NAME), timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_answer_above_the_limit_is_refused(stub, probe):
    probe.answer = lambda: pb.Job(name="x" * (65 << 10))
    error, info = await refusal(stub.GetJob(pb.GetJobRequest(name=NAME)))
    assert (error.code(), info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")


async def test_a_broken_constraint_names_the_field_by_its_path(stub):
    stream = stub.WatchJobs(pb.WatchJobsRequest(names=["jobs/a", "jobs/B"]))
    error, info = await refusal(stream.read())
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status_in(error).details if detail.Is(bad.DESCRIPTOR))
    assert (error.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert [violation.field for violation in bad.field_violations] == ["names[1]"]


async def test_a_client_that_goes_away_ends_its_stream(stub, probe, gate):
    stream = stub.WatchJobs(pb.WatchJobsRequest())
    await stream.read()
    assert gate.streams.count == 1
    stream.cancel()
    for _ in range(100):
        if probe.streams_closed:
            break
        await asyncio.sleep(0.02)
    assert probe.streams_closed == 1
    assert gate.streams.count == 0


async def test_a_stream_that_nobody_reads_is_held_back_not_piled_up(stub, probe, gate):
    stream = stub.WatchJobs(pb.WatchJobsRequest())
    first = await stream.read()
    await asyncio.sleep(0.3)
    second = await stream.read()
    assert (first.revision, second.revision) == (0, 1)
    stream.cancel()


async def test_draining_ends_streams_with_advice_and_refuses_new_ones(stub, gate):
    stream = stub.WatchJobs(pb.WatchJobsRequest())
    await stream.read()
    draining = asyncio.ensure_future(gate.streams.drain())

    async def read_on():
        while await stream.read() is not grpc.aio.EOF:
            pass

    error, info = await refusal(read_on())
    await draining
    assert (error.code(), info.reason) == (grpc.StatusCode.UNAVAILABLE, "KERNEL_STOPPING")
    assert "resume" in error.details()
    error, info = await refusal(stub.WatchJobs(pb.WatchJobsRequest()).read())
    assert info.reason == "KERNEL_STOPPING"


async def test_a_plugins_unavailability_carries_its_wait(stub, probe):
    async def fail():
        raise Unavailable("away", retry_after_s=2.0)

    probe.answer = fail
    error, _ = await refusal(stub.GetJob(pb.GetJobRequest(name=NAME)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_a_service_that_lacks_a_method_fails_at_the_start(gate):
    class Lacking(Service):
        descriptor = Probe.descriptor

    with pytest.raises(AttributeError, match="create_job"):
        service_handlers(gate, Lacking())

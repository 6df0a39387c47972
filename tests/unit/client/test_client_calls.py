"""Deadlines, retries, request ids and errors of unary calls."""

import random
import uuid

import pytest
from google.rpc import code_pb2
from hypersdk import errors
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.client import CallOptions, Client, Endpoint
from hypersdk.client.calls import Backoff, tag
from hypersdk.errors import Unavailable
from unit.client.fake_kernel import rich, unavailable


def test_a_call_is_repeated_while_the_daemon_is_unavailable(kernel, client):
    kernel.failures.extend([unavailable(), unavailable()])
    assert client.system.info().version == "9.9"
    assert [method for method, _ in kernel.calls] == ["GetSystemInfo"] * 3


def test_a_repeated_mutator_carries_the_same_request_id(kernel, client):
    kernel.failures.append(unavailable())
    client.jobs.create("export", {})
    ids = [metadata["x-request-id"] for _, metadata in kernel.calls]
    assert len(ids) == 2
    assert ids[0] == ids[1] == kernel.requests[0].request_id
    assert uuid.UUID(ids[0])


def test_an_upload_carries_its_request_id_in_its_first_message(kernel, client, tmp_path):
    wheel = tmp_path / "x-1.0-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    client.plugins.upload(wheel)
    ((_, metadata),) = kernel.calls
    assert uuid.UUID(kernel.requests[0].request_id) == uuid.UUID(metadata["x-request-id"])


def test_a_mutator_repeated_with_its_request_id_has_one_effect(kernel, client):
    request_id = str(uuid.uuid4())
    first = client.jobs.create("export", {}, request_id=request_id)
    assert client.jobs.create("export", {}, request_id=request_id).name == first.name
    assert len(kernel.jobs) == 1


def test_after_its_tries_the_last_error_is_raised(kernel, client):
    kernel.failures.extend([unavailable() for _ in range(4)])
    with pytest.raises(Unavailable) as caught:
        client.system.info()
    assert caught.value.reason == "HOST_RESTARTING"
    assert len(kernel.calls) == 4


def test_a_wait_that_the_server_asks_for_beyond_the_deadline_ends_the_call(kernel, client):
    kernel.failures.append(unavailable(retry_s=3600))
    with pytest.raises(Unavailable) as caught:
        client.system.info()
    assert caught.value.retry_after_s == 3600
    assert len(kernel.calls) == 1


def test_other_failures_are_not_repeated(kernel, client):
    with pytest.raises(errors.NotFound) as caught:
        client.jobs.get("jobs/none")
    assert caught.value.reason == "JOB_NOT_FOUND"
    assert caught.value.metadata["name"] == "jobs/none"
    assert uuid.UUID(caught.value.metadata["request_id"])
    assert len(kernel.calls) == 1


def test_field_violations_reach_the_caller(kernel, client):
    kernel.failures.append(
        rich(code_pb2.INVALID_ARGUMENT, "the spec is wrong", "SPEC_INVALID", violations=[("spec.format", "no such")])
    )
    with pytest.raises(errors.InvalidArgument) as caught:
        client.jobs.create("export", {})
    assert caught.value.violations == (errors.FieldViolation("spec.format", "no such"),)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.FAILED_PRECONDITION, errors.FailedPrecondition), (code_pb2.ABORTED, errors.Aborted),
        (code_pb2.PERMISSION_DENIED, errors.PermissionDenied), (code_pb2.UNAUTHENTICATED, errors.Unauthenticated),
        (code_pb2.RESOURCE_EXHAUSTED, errors.ResourceExhausted), (code_pb2.DATA_LOSS, errors.DataLoss),
        (code_pb2.DEADLINE_EXCEEDED, errors.DeadlineExceeded), (code_pb2.UNKNOWN, errors.Internal),
        (code_pb2.ALREADY_EXISTS, errors.AlreadyExists), (code_pb2.OUT_OF_RANGE, errors.OutOfRange),
    ],
)  # fmt: skip
def test_every_code_becomes_its_error(kernel, client, code, kind):
    kernel.failures.append(rich(code, "because", "SOME_REASON"))
    with pytest.raises(kind) as caught:
        client.system.info()
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.reason) == ("because", "SOME_REASON")


def test_no_daemon_at_all_says_how_to_start_one(tmp_path):
    options = CallOptions(tries=2, backoff_s=0.001)
    with Client(f"unix:{tmp_path}/none.sock", options=options) as client, pytest.raises(Unavailable) as caught:
        client.system.info()
    assert caught.value.reason == "DAEMON_UNREACHABLE"
    assert "hypersdkd" in caught.value.message
    assert "No such file" in caught.value.message


def test_credentials_that_cannot_be_read_are_named(tmp_path):
    endpoint = Endpoint("127.0.0.1:1", ca_file=tmp_path / "ca.pem", token_file=tmp_path / "token")
    with pytest.raises(errors.Unauthenticated) as caught:
        Client(endpoint=endpoint)
    assert caught.value.reason == "CREDENTIALS_UNREADABLE"
    assert str(tmp_path / "ca.pem") in caught.value.message


def test_backoff_grows_to_its_bound_and_starts_over():
    backoff = Backoff(CallOptions(backoff_s=1.0, backoff_max_s=4.0), random.Random(1))
    waits = [backoff.wait_s() for _ in range(5)]
    for wait, longest in zip(waits, (1, 2, 4, 4, 4), strict=True):
        assert longest / 2 <= wait <= longest
    backoff.reset()
    assert backoff.wait_s() <= 1.0


def test_a_given_request_id_is_kept():
    request = jobs_pb2.CancelJobRequest(name="jobs/x", request_id="6a6ff3c5-0000-4000-8000-000000000000")
    assert tag(request) == "6a6ff3c5-0000-4000-8000-000000000000"


def test_a_read_has_an_id_in_its_header_only():
    request = jobs_pb2.GetJobRequest(name="jobs/x")
    assert uuid.UUID(tag(request))
    assert request == jobs_pb2.GetJobRequest(name="jobs/x")

"""A real job through the daemon's whole face: created once, watched, logged, listed, waited for as an operation."""

import json
import os
import uuid

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict
from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.api.jobs.v1 import jobs_pb2_grpc

TERMINAL = {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED}


@pytest.fixture
def jobs(daemon):
    with daemon.unix() as channel:
        yield jobs_pb2_grpc.JobServiceStub(channel)


@pytest.fixture
def create(jobs, tmp_path):
    """A request to convert a small disk."""

    def make(**fields) -> pb.CreateJobRequest:
        (tmp_path / "disk.raw").write_bytes(os.urandom(1 << 20) + bytes(3 << 20))
        spec = {
            "source_path": str(tmp_path / "disk.raw"), "source_format": "raw",
            "target_path": str(tmp_path / "disk.qcow2"), "format": "qcow2",
        }  # fmt: skip
        request = pb.CreateJobRequest(**fields)
        ParseDict({"task": "convert", "spec": spec, "labels": {"run": tmp_path.name}}, request.job)
        return request

    return make


def follow(jobs, request: pb.WatchJobsRequest) -> list[pb.WatchJobsResponse]:
    """Messages about a job, up to the one that ends it."""
    found = []
    stream = jobs.WatchJobs(request, timeout=60)
    for message in stream:
        if message.HasField("job"):
            found.append(message)
            if message.job.state in TERMINAL:
                stream.cancel()
                return found
    raise AssertionError("the stream ended before the job")


def test_a_job_is_watched_to_its_end_and_every_view_of_it_agrees(daemon, jobs, create, tmp_path):
    made = jobs.CreateJob(create(), timeout=20)
    messages = follow(jobs, pb.WatchJobsRequest(names=[made.name]))
    last = messages[-1].job
    assert last.state == pb.JOB_STATE_SUCCEEDED, last.error
    assert (tmp_path / "disk.qcow2").stat().st_size > 1 << 20
    changes = [m.revision for m in messages if m.event_type != "job.progress"]
    assert changes == sorted(set(changes))

    again = follow(jobs, pb.WatchJobsRequest(names=[made.name], since_revision=int(json.loads(made.etag))))
    assert [m.event_type for m in again if m.event_type != "job.progress"][-1] == "job.succeeded"

    assert jobs.GetJob(pb.GetJobRequest(name=made.name)) == last
    listed = jobs.ListJobs(pb.ListJobsRequest(filter=f'state = SUCCEEDED labels.run = "{tmp_path.name}"'))
    assert list(listed.jobs) == [last]
    attempts = jobs.ListAttempts(pb.ListAttemptsRequest(parent=made.name)).attempts
    assert [(a.number, a.state) for a in attempts] == [(1, pb.ATTEMPT_STATE_SUCCEEDED)]
    lines = list(jobs.StreamLogs(pb.StreamLogsRequest(name=made.name, follow=True), timeout=20))
    assert all(line.attempt == 1 for line in lines)
    with daemon.unix() as channel:
        events = events_pb2_grpc.EventServiceStub(channel).ListEvents(
            events_pb2.ListEventsRequest(filter=f'subject = "{made.name}" AND type = "job.*"')
        )
    assert [e.type for e in events.events][:1] == ["job.created"]
    assert events.events[-1].revision == changes[-1]


def test_the_same_request_id_makes_one_job_and_another_request_under_it_is_refused(jobs, create, refused):
    request_id = str(uuid.uuid4())
    first = jobs.CreateJob(create(request_id=request_id, job_id=f"once-{uuid.uuid4().hex[:8]}"), timeout=20)
    name = first.name.removeprefix("jobs/")
    assert jobs.CreateJob(create(request_id=request_id, job_id=name), timeout=20).uid == first.uid
    answer = refused(jobs.CreateJob, create(request_id=request_id), timeout=20)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    follow(jobs, pb.WatchJobsRequest(names=[first.name]))


def test_validate_only_makes_nothing(jobs, create, refused):
    job_id = f"dry-{uuid.uuid4().hex[:8]}"
    assert jobs.CreateJob(create(job_id=job_id, validate_only=True), timeout=20).name == f"jobs/{job_id}"
    assert refused(jobs.GetJob, pb.GetJobRequest(name=f"jobs/{job_id}"))["reason"] == "JOB_NOT_FOUND"


def test_a_wrong_spec_names_its_field(jobs, create, refused):
    request = create()
    request.job.spec.fields["format"].number_value = 7
    answer = refused(jobs.CreateJob, request, timeout=20)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "SPEC_INVALID")
    assert answer["fields"] == ["job.spec.format"]


def test_a_generic_client_waits_for_the_job_as_an_operation(daemon, jobs, create):
    made = jobs.CreateJob(create(), timeout=20)
    name = made.name.replace("jobs/", "operations/")
    with daemon.unix() as channel:
        wait = channel.unary_unary(
            "/google.longrunning.Operations/WaitOperation",
            request_serializer=operations_pb2.WaitOperationRequest.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )
        done = wait(operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=50)), timeout=60)
    result = pb.Job()
    assert done.done
    assert done.response.Unpack(result)
    assert result.state == pb.JOB_STATE_SUCCEEDED


def test_a_failed_job_is_an_operation_with_its_error(daemon, jobs, create, tmp_path):
    request = create()
    request.job.spec.fields["source_path"].string_value = str(tmp_path / "none.raw")
    made = jobs.CreateJob(request, timeout=20)
    error = follow(jobs, pb.WatchJobsRequest(names=[made.name]))[-1].job.error
    with daemon.unix() as channel:
        get = channel.unary_unary(
            "/google.longrunning.Operations/GetOperation",
            request_serializer=operations_pb2.GetOperationRequest.SerializeToString,
            response_deserializer=operations_pb2.Operation.FromString,
        )
        operation = get(operations_pb2.GetOperationRequest(name=made.name))
    assert operation.done
    assert operation.error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert error.reason == "FILE_NOT_FOUND"


def test_what_became_of_jobs_is_summed_up(daemon, jobs, create, monkeypatch, capsys):
    from hyperctl.__main__ import main
    from hypersdk.client import Client

    made = jobs.CreateJob(create(), timeout=20)
    follow(jobs, pb.WatchJobsRequest(names=[made.name]))
    address = f"unix:{daemon.state}/hypersdkd.sock"
    label = next(iter(made.labels.values()))
    with Client(address) as client:
        report = client.reports.jobs(filter=f'labels.run = "{label}"')
    assert (report.total.job_count, report.total.succeeded_count, report.total.success_rate) == (1, 1, 1.0)
    assert report.total.read_bytes > 1 << 20
    assert report.tasks[0].key == "convert"
    assert report.slowest[0].name == made.name
    monkeypatch.setenv("HYPERSDK_ADDRESS", address)
    assert main(["job", "report", "--since", "1h", "--filter", f'labels.run = "{label}"', "-o", "csv"]) == 0
    assert "\r\ntask,convert,1,1,0,0,1.0000," in capsys.readouterr().out

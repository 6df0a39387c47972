"""Jobs that may wait for cleaner hours, with the plugin carbon-static in its host."""

import time

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.api.jobs.v1 import jobs_pb2_grpc


@pytest.fixture
def jobs(daemon):
    with daemon.unix() as channel:
        yield jobs_pb2_grpc.JobServiceStub(channel)


@pytest.fixture
def create(jobs, tmp_path):
    def make(**delay) -> pb.Job:
        (tmp_path / "disk.raw").write_bytes(bytes(4096))
        spec = {
            "source_path": str(tmp_path / "disk.raw"), "source_format": "raw",
            "target_path": str(tmp_path / "copy.raw"), "format": "raw",
        }  # fmt: skip
        request = ParseDict({"job": {"task": "convert", "spec": spec, "delay": delay}}, pb.CreateJobRequest())
        return jobs.CreateJob(request, timeout=20)

    return make


def until(jobs, name, ready) -> pb.Job:
    deadline = time.monotonic() + 60
    while not ready(job := jobs.GetJob(pb.GetJobRequest(name=name), timeout=20)):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def test_where_every_hour_is_the_same_a_job_starts_at_once_and_says_so(jobs, create):
    made = create(source="static", region="sample-coal", max_delay="36000s")
    job = until(jobs, made.name, lambda job: job.state == pb.JOB_STATE_SUCCEEDED)
    assert job.planned_start_reason == "sample-coal is at its best now, at 820 gCO2e/kWh"
    assert job.delay.expected_duration.seconds == 3600


def test_where_hours_differ_the_chosen_one_is_within_the_limit_and_explained(jobs, create):
    made = create(source="static", region="sample-solar", max_delay="86400s", expected_duration="600s")
    job = until(jobs, made.name, lambda job: job.HasField("planned_start_time"))
    waited = job.planned_start_time.seconds - job.create_time.seconds
    assert 0 <= waited <= 86400
    assert "sample-solar" in job.planned_start_reason
    if waited > 60:
        job = until(jobs, made.name, lambda job: job.state_message == job.planned_start_reason)
        assert job.state == pb.JOB_STATE_WAITING
        jobs.CancelJob(pb.CancelJobRequest(name=made.name), timeout=20)


def test_a_region_that_the_source_does_not_know_starts_at_once_with_a_note(jobs, create):
    made = create(source="static", region="Atlantis", max_delay="36000s")
    job = until(jobs, made.name, lambda job: job.state == pb.JOB_STATE_SUCCEEDED)
    assert job.planned_start_reason.startswith("started at once: carbon/static gave no advice")
    assert "sample-solar" in job.planned_start_reason


def test_a_source_that_is_not_installed_is_refused(create, refused):
    said = refused(create, source="none", region="x", max_delay="60s")
    assert (said["code"], said["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "CARBON_SOURCE_UNKNOWN")
    assert said["fields"] == ["job.delay.source"]


def test_a_delay_without_a_limit_is_refused(create, refused):
    assert refused(create, source="static", region="x")["reason"] == "FIELD_INVALID"

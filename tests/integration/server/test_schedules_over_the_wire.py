"""Schedules through the daemon's whole face."""

import time
import uuid

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2, jobs_pb2_grpc
from hypersdk.api.schedules.v1 import schedules_pb2 as pb
from hypersdk.api.schedules.v1 import schedules_pb2_grpc


@pytest.fixture
def stub(daemon):
    with daemon.unix() as channel:
        yield schedules_pb2_grpc.ScheduleServiceStub(channel)


@pytest.fixture
def name():
    return f"s-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def wish(tmp_path):
    """A schedule that converts a small disk into a file named after the run."""

    def make(**fields) -> pb.Schedule:
        (tmp_path / "disk.raw").write_bytes(b"x" * 4096)
        spec = {
            "source_path": str(tmp_path / "disk.raw"), "source_format": "raw",
            "target_path": str(tmp_path / "disk-${run_number}.raw"), "format": "raw", "overwrite": True,
        }  # fmt: skip
        job = {"task": "convert", "spec": spec, "labels": {"made-by": "${schedule}"}, "priority": 7}
        plain = {"cron": "30 2 * * *", "time_zone": "Europe/Berlin", "job_template": job}
        return ParseDict(plain | fields, pb.Schedule())

    return make


def create(stub, name, schedule, **fields) -> pb.Schedule:
    return stub.CreateSchedule(pb.CreateScheduleRequest(schedule_id=name, schedule=schedule, **fields), timeout=20)


def test_a_schedule_is_kept_as_it_was_given(stub, name, wish):
    given = wish(
        jitter="600s", overlap_policy="OVERLAP_POLICY_QUEUE", variables={"where": "lab"}, job_deadline="3600s",
        missed_run_policy={"action": "ACTION_CATCH_UP", "catch_up_limit": 3, "missed_after": "30s"},
        end_time="2099-01-01T00:00:00Z", display_name="Nightly", labels={"env": "lab"},
    )  # fmt: skip
    made = create(stub, name, given)
    assert made.name == f"schedules/{name}"
    assert made.state == pb.SCHEDULE_STATE_ACTIVE
    assert made.next_time.ToDatetime() <= made.next_start_time.ToDatetime()
    for field in ("cron", "time_zone", "jitter", "overlap_policy", "variables", "missed_run_policy", "end_time",
                  "display_name", "labels", "job_template", "job_deadline"):  # fmt: skip
        assert getattr(made, field) == getattr(given, field), field
    assert stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20) == made
    assert made in stub.ListSchedules(pb.ListSchedulesRequest(filter='labels.env = "lab"'), timeout=20).schedules


def test_a_schedule_fires_by_itself_and_tells_of_it(daemon, stub, name, wish, tmp_path):
    made = create(stub, name, wish(cron="* * * * * *", end_time="2099-01-01T00:00:00Z"))
    with daemon.unix() as channel:
        jobs = jobs_pb2_grpc.JobServiceStub(channel)
        deadline = time.monotonic() + 60
        while (now := stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20)).counts.succeeded == 0:
            assert time.monotonic() < deadline, now
            time.sleep(0.1)
        stub.PauseSchedule(pb.PauseScheduleRequest(name=made.name, reason="enough"), timeout=20)
        asked = jobs_pb2.ListJobsRequest(filter=f'schedule = "{made.name}"', order_by="create_time")
        found = jobs.ListJobs(asked, timeout=20).jobs
        first = found[0]
        assert (first.schedule, first.labels["made-by"], first.priority) == (made.name, name, 7)
        assert first.spec["target_path"].endswith("disk-1.raw")
        assert first.scheduled_time.seconds >= made.create_time.seconds
        assert (tmp_path / "disk-1.raw").read_bytes() == b"x" * 4096
        events = events_pb2_grpc.EventServiceStub(channel).ListEvents(
            events_pb2.ListEventsRequest(filter=f'subject = "{made.name}"', page_size=1000), timeout=20
        )
    kinds = {event.type for event in events.events}
    assert {"schedule.created", "schedule.fired", "schedule.paused"} <= kinds
    paused = stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20)
    assert (paused.state, paused.pause_reason) == (pb.SCHEDULE_STATE_PAUSED, "enough")
    assert not paused.HasField("next_time")
    stub.DeleteSchedule(pb.DeleteScheduleRequest(name=made.name), timeout=20)


def test_a_manual_run_and_its_repetition_make_one_job(stub, name, wish):
    made = create(stub, name, wish())
    request = pb.RunScheduleRequest(name=made.name, request_id=str(uuid.uuid4()))
    job = stub.RunSchedule(request, timeout=20)
    assert stub.RunSchedule(request, timeout=20).uid == job.uid
    assert stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20).last_job == job.name


def test_an_update_touches_what_it_names_and_nothing_else(stub, name, wish):
    made = create(stub, name, wish(labels={"env": "lab"}))
    change = pb.Schedule(name=made.name, display_name="New", time_zone="Asia/Tokyo", etag=made.etag)
    request = pb.UpdateScheduleRequest(schedule=change)
    request.update_mask.paths.append("time_zone")
    updated = stub.UpdateSchedule(request, timeout=20)
    assert (updated.time_zone, updated.display_name, updated.cron) == ("Asia/Tokyo", "", "30 2 * * *")
    unmasked = pb.UpdateScheduleRequest(schedule=pb.Schedule(name=made.name, display_name="New"))
    updated = stub.UpdateSchedule(unmasked, timeout=20)
    assert (updated.display_name, dict(updated.labels)) == ("New", {"env": "lab"})
    once = pb.UpdateScheduleRequest(schedule=pb.Schedule(name=made.name))
    once.schedule.run_at.FromJsonString("2099-01-01T00:00:00Z")
    updated = stub.UpdateSchedule(once, timeout=20)
    assert updated.WhichOneof("timing") == "run_at"


def test_times_are_previewed_in_any_zone_for_schedules_kept_or_not(stub, name, wish):
    made = create(stub, name, wish())
    kept = stub.PreviewTimes(pb.PreviewTimesRequest(name=made.name, count=2, time_zone="UTC"), timeout=20).times
    assert kept[0].scheduled_time == made.next_time
    request = pb.PreviewTimesRequest(schedule=pb.Schedule(cron="30 2 * * *", time_zone="Europe/Berlin"), count=2)
    request.after.FromJsonString("2026-03-28T12:00:00Z")
    shown = [t.local_time for t in stub.PreviewTimes(request, timeout=20).times]
    assert shown == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
    request.after.FromJsonString("9999-12-31T00:00:00Z")
    assert list(stub.PreviewTimes(request, timeout=20).times) == []


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"cron": "61 * * * *"}, grpc.StatusCode.INVALID_ARGUMENT, "SCHEDULE_INVALID"),
        ({"time_zone": "Mars/Olympus"}, grpc.StatusCode.INVALID_ARGUMENT, "SCHEDULE_INVALID"),
        ({"variables": {"Bad": "x"}}, grpc.StatusCode.INVALID_ARGUMENT, "SCHEDULE_INVALID"),
        ({"end_time": "2001-01-01T00:00:00Z"}, grpc.StatusCode.INVALID_ARGUMENT, "SCHEDULE_INVALID"),
        ({"cron": "x" * 300}, grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
        ({"jitter": "-5s"}, grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
        ({"job_template": {"task": "none-such"}}, grpc.StatusCode.INVALID_ARGUMENT, "TASK_UNKNOWN"),
        ({"job_template": {"task": "convert"}}, grpc.StatusCode.INVALID_ARGUMENT, "SPEC_INVALID"),
        ({"job_template": {"task": "convert", "display_name": "${nope}"}}, grpc.StatusCode.INVALID_ARGUMENT,
         "SCHEDULE_INVALID"),
        ({"job_template": {"task": "convert", "display_name": "${scheduled_time}" * 12}},
         grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_when_it_is_made(stub, name, wish, refused, fields, code, reason):
    said = refused(create, stub, name, wish(**fields))
    assert (said["code"], said["reason"]) == (code, reason)
    assert said["fields"]
    assert refused(stub.GetSchedule, pb.GetScheduleRequest(name=f"schedules/{name}"), timeout=20)["reason"] == (
        "SCHEDULE_NOT_FOUND"
    )


def test_an_update_is_held_to_the_same_constraints(stub, name, wish, refused):
    made = create(stub, name, wish())
    long = pb.UpdateScheduleRequest(schedule=pb.Schedule(name=made.name, display_name="x" * 500))
    assert refused(stub.UpdateSchedule, long, timeout=20)["reason"] == "FIELD_INVALID"
    stale = pb.UpdateScheduleRequest(schedule=pb.Schedule(name=made.name, display_name="x", etag='"0"'))
    assert refused(stub.UpdateSchedule, stale, timeout=20)["reason"] == "ETAG_MISMATCH"
    part = pb.UpdateScheduleRequest(schedule=made)
    part.update_mask.paths.append("job_template.spec")
    assert refused(stub.UpdateSchedule, part, timeout=20)["reason"] == "FIELD_IMMUTABLE"


def test_names_are_unique_and_checking_changes_nothing(stub, name, wish, refused):
    create(stub, name, wish(), validate_only=True)
    made = create(stub, name, wish())
    assert refused(create, stub, name, wish())["reason"] == "SCHEDULE_EXISTS"
    stub.DeleteSchedule(pb.DeleteScheduleRequest(name=made.name, validate_only=True), timeout=20)
    stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20)


def test_queued_runs_wait_in_line_and_the_line_moves_on(daemon, stub, name, wish):
    wanted = wish(overlap_policy="OVERLAP_POLICY_QUEUE")
    wanted.job_template.earliest_start_time.FromJsonString("2099-01-01T00:00:00Z")
    made = create(stub, name, wanted)
    first = stub.RunSchedule(pb.RunScheduleRequest(name=made.name), timeout=20)
    wanted.name = made.name
    wanted.job_template.ClearField("earliest_start_time")
    stub.UpdateSchedule(pb.UpdateScheduleRequest(schedule=wanted), timeout=20)
    second = stub.RunSchedule(pb.RunScheduleRequest(name=made.name), timeout=20)
    assert [d.job for d in second.dependencies] == [first.name]
    assert second.state == jobs_pb2.JOB_STATE_WAITING
    with daemon.unix() as channel:
        jobs = jobs_pb2_grpc.JobServiceStub(channel)
        jobs.CancelJob(jobs_pb2.CancelJobRequest(name=first.name), timeout=20)
        deadline = time.monotonic() + 60
        while (now := jobs.GetJob(jobs_pb2.GetJobRequest(name=second.name), timeout=20)).state != (
            jobs_pb2.JOB_STATE_SUCCEEDED
        ):
            assert time.monotonic() < deadline, now
            time.sleep(0.05)
    counts = stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20).counts
    assert (counts.runs, counts.cancelled, counts.succeeded) == (2, 1, 1)


def test_a_replaced_run_is_cancelled(stub, name, wish):
    wanted = wish(overlap_policy="OVERLAP_POLICY_REPLACE")
    wanted.job_template.earliest_start_time.FromJsonString("2099-01-01T00:00:00Z")
    made = create(stub, name, wanted)
    stub.RunSchedule(pb.RunScheduleRequest(name=made.name), timeout=20)
    stub.RunSchedule(pb.RunScheduleRequest(name=made.name), timeout=20)
    counts = stub.GetSchedule(pb.GetScheduleRequest(name=made.name), timeout=20).counts
    assert (counts.runs, counts.cancelled) == (2, 1)
    stub.DeleteSchedule(pb.DeleteScheduleRequest(name=made.name), timeout=20)

"""What keeps jobs waiting, through the daemon's whole face: dependencies, groups, windows, limits, maintenance; and the
commands that show and steer it."""

import itertools
import time
import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict, ParseDict
from hyperctl.app import app
from hypersdk.api.jobs.v1 import job_groups_pb2 as groups_pb
from hypersdk.api.jobs.v1 import job_groups_pb2_grpc, jobs_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.api.policies.v1 import policies_pb2, policies_pb2_grpc
from hypersdk.api.queue.v1 import queue_pb2, queue_pb2_grpc
from typer.testing import CliRunner

NAMES = {value.number: value.name.removeprefix("JOB_STATE_").lower() for value in pb.JobState.DESCRIPTOR.values}
WEEK = [name for name in policies_pb2.Weekday.keys() if name != "WEEKDAY_UNSPECIFIED"]  # noqa: SIM118 - no mapping
ENDS = {"succeeded", "failed", "cancelled"}
CLOSED = {"spans": [{"days": ["WEEKDAY_MONDAY"], "start_time_of_day": "00:00", "end_time_of_day": "00:01"}],
          "blackouts": [{"first_date": "2020-01-01", "last_date": "2099-12-31"}]}  # fmt: skip


class Api:
    def __init__(self, channel, folder):
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.groups = job_groups_pb2_grpc.JobGroupServiceStub(channel)
        self.policies = policies_pb2_grpc.PolicyServiceStub(channel)
        self.queue = queue_pb2_grpc.QueueServiceStub(channel)
        self.folder = folder

    def job(self, good=True, **fields) -> pb.Job:
        """Converts a small disk, or fails for want of it."""
        source = self.folder / ("disk.raw" if good else "nothing.raw")
        if good:
            source.write_bytes(b"x" * 4096)
        spec = {
            "source_path": str(source), "source_format": "raw", "format": "raw", "overwrite": True,
            "target_path": str(self.folder / f"{uuid.uuid4().hex}.raw"),
        }  # fmt: skip
        return ParseDict({"task": "convert", "spec": spec} | fields, pb.Job())

    def create(self, job_id, **fields) -> pb.Job:
        good = fields.pop("good", True)
        return self.jobs.CreateJob(pb.CreateJobRequest(job=self.job(good, **fields), job_id=job_id), timeout=20)

    def state(self, name) -> str:
        return NAMES[self.jobs.GetJob(pb.GetJobRequest(name=name), timeout=20).state]

    def until(self, name, *states) -> pb.Job:
        deadline = time.monotonic() + 60
        while (found := self.state(name)) not in states:
            assert time.monotonic() < deadline, f"{name} stayed {found}"
            time.sleep(0.05)
        return self.jobs.GetJob(pb.GetJobRequest(name=name), timeout=20)

    def explain(self, name) -> pb.JobExplanation:
        return self.jobs.ExplainJob(pb.ExplainJobRequest(name=name), timeout=20)


@pytest.fixture
def api(daemon, tmp_path):
    with daemon.unix() as channel:
        yield Api(channel, tmp_path)


@pytest.fixture
def unique():
    return f"x{uuid.uuid4().hex[:10]}"


@pytest.fixture
def cli(daemon):
    def run(*arguments, code=0):
        found = CliRunner().invoke(app, ["--address", f"unix:{daemon.state}/hypersdkd.sock", *arguments])
        assert found.exit_code == code, found.output
        return found.output

    return run


@pytest.fixture
def drained(api, daemon):
    """Nothing starts in this test until it says so."""
    drain = queue_pb2.SetQueueModeRequest(mode=queue_pb2.QUEUE_MODE_DRAINING, reason="upkeep")
    api.queue.SetQueueMode(drain, timeout=20)
    yield
    api.queue.SetQueueMode(queue_pb2.SetQueueModeRequest(mode=queue_pb2.QUEUE_MODE_OPEN), timeout=20)


def test_a_job_waits_for_another_says_so_and_runs_when_that_has_succeeded(api, drained, unique):
    first = api.create(f"{unique}-a")
    second = api.create(f"{unique}-b", dependencies=[{"job": first.name, "condition": "result.virtual_size_bytes > 0"}])
    assert NAMES[second.state] == "waiting"
    found = api.explain(second.name)
    assert found.hindrances[0].reason == "DEPENDENCY"
    assert first.name in found.summary
    api.queue.SetQueueMode(queue_pb2.SetQueueModeRequest(mode=queue_pb2.QUEUE_MODE_OPEN), timeout=20)
    ended = [api.until(name, *ENDS) for name in (first.name, second.name)]
    assert ended[1].start_time.ToMicroseconds() >= ended[0].end_time.ToMicroseconds()


@pytest.mark.parametrize(
    ("policy", "state"),
    [
        ("UNMET_DEPENDENCY_CANCEL", "cancelled"),
        ("UNMET_DEPENDENCY_FAIL", "failed"),
        ("UNMET_DEPENDENCY_RUN", "succeeded"),
    ],
)
def test_what_waits_for_a_success_that_cannot_come_ends_as_its_policy_says(api, unique, policy, state):
    failing = api.create(f"{unique}-a", good=False)
    waiting = api.create(f"{unique}-b", dependencies=[{"job": failing.name}], on_unmet_dependency=policy)
    ended = api.until(waiting.name, *ENDS)
    assert NAMES[ended.state] == state
    if state != "succeeded":
        assert ended.error.reason == "DEPENDENCY_UNMET"


def test_a_dependency_on_a_job_that_is_not_there_is_refused(api, unique, refused):
    request = pb.CreateJobRequest(job=api.job(dependencies=[{"job": f"jobs/{unique}-none"}]), job_id=f"{unique}-b")
    answer = refused(api.jobs.CreateJob, request, timeout=20)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "DEPENDENCY_UNKNOWN")


def group(api, members, **fields) -> groups_pb.JobGroup:
    out = ParseDict(fields, groups_pb.JobGroup())
    for key, good, after in members:
        member = out.members.add(key=key, job=api.job(good))
        for other in after:
            member.after.add(key=other)
    return out


def test_a_diamond_runs_in_order_and_its_group_succeeds(api, unique, cli):
    wanted = group(api, [("a", True, []), ("b", True, ["a"]), ("c", True, ["a"]), ("d", True, ["b", "c"])])
    made = api.groups.CreateJobGroup(groups_pb.CreateJobGroupRequest(job_group=wanted, job_group_id=unique), timeout=20)
    assert made.state == groups_pb.JOB_GROUP_STATE_ACTIVE
    for key in "abcd":
        api.until(f"jobs/{unique}-{key}", *ENDS)
    found = api.groups.GetJobGroup(groups_pb.GetJobGroupRequest(name=made.name), timeout=20)
    assert found.state == groups_pb.JOB_GROUP_STATE_SUCCEEDED
    times = {m.key: (m.job.start_time.ToMicroseconds(), m.job.end_time.ToMicroseconds()) for m in found.members}
    assert all(times[later][0] >= times[sooner][1] for sooner, later in ["ab", "ac", "bd", "cd"])
    assert cli("job", "graph", f"{unique}-d").splitlines() == [
        "a  SUCCEEDED", "  b  SUCCEEDED  after a succeeded", "  c  SUCCEEDED  after a succeeded",
        "    d  SUCCEEDED  after b succeeded, c succeeded",
    ]  # fmt: skip
    assert '"b" -> "d"' in cli("group", "graph", unique, "--dot")
    listed = api.groups.ListJobGroups(groups_pb.ListJobGroupsRequest(page_size=1), timeout=20)
    assert (listed.job_groups[0].name, dict(listed.job_groups[0].job_counts)) == (made.name, {"succeeded": 4})
    filtered = api.jobs.ListJobs(pb.ListJobsRequest(filter=f'group = "{made.name}"'), timeout=20)
    assert len(filtered.jobs) == 4


def test_a_circle_is_refused_by_name_and_nothing_of_the_group_is_kept(api, unique, refused):
    wanted = group(api, [("a", True, ["c"]), ("b", True, ["a"]), ("c", True, ["b"])])
    request = groups_pb.CreateJobGroupRequest(job_group=wanted, job_group_id=unique)
    answer = refused(api.groups.CreateJobGroup, request, timeout=20)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "DEPENDENCY_CYCLE")
    with pytest.raises(grpc.RpcError) as caught:
        api.groups.GetJobGroup(groups_pb.GetJobGroupRequest(name=f"jobGroups/{unique}"), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_failure_cancels_the_rest_of_a_group_that_says_so(api, unique):
    members = [("bad", False, []), ("next", True, ["bad"]), ("other", True, [])]
    wanted = group(api, members, on_failure="GROUP_FAILURE_POLICY_CANCEL_REST")
    wanted.members[2].job.earliest_start_time.FromJsonString("2099-01-01T00:00:00Z")
    made = api.groups.CreateJobGroup(groups_pb.CreateJobGroupRequest(job_group=wanted, job_group_id=unique), timeout=20)
    states = {key: NAMES[api.until(f"jobs/{unique}-{key}", *ENDS).state] for key in ("bad", "next", "other")}
    assert states == {"bad": "failed", "next": "cancelled", "other": "cancelled"}
    found = api.groups.GetJobGroup(groups_pb.GetJobGroupRequest(name=made.name), timeout=20)
    assert found.state == groups_pb.JOB_GROUP_STATE_FAILED


def test_a_batch_is_all_or_none(api, unique, refused):
    requests = [pb.CreateJobRequest(job=api.job(), job_id=f"{unique}-{n}") for n in range(3)]
    made = api.jobs.BatchCreateJobs(pb.BatchCreateJobsRequest(requests=requests), timeout=20)
    assert [job.name for job in made.jobs] == [f"jobs/{unique}-{n}" for n in range(3)]
    again = [pb.CreateJobRequest(job=api.job(), job_id=f"{unique}-{n}") for n in (9, 0)]
    answer = refused(api.jobs.BatchCreateJobs, pb.BatchCreateJobsRequest(requests=again), timeout=20)
    assert answer["reason"] == "JOB_EXISTS"
    with pytest.raises(grpc.RpcError):
        api.jobs.GetJob(pb.GetJobRequest(name=f"jobs/{unique}-9"), timeout=20)
    for job in made.jobs:
        api.until(job.name, *ENDS)


def test_a_job_waits_for_its_window_and_runs_when_that_is_opened(api, unique, refused, cli):
    window = ParseDict(CLOSED, policies_pb2.Window())
    made = api.policies.CreateWindow(policies_pb2.CreateWindowRequest(window=window, window_id=unique), timeout=20)
    assert not made.open
    job = api.create(f"{unique}-j", window=made.name)
    assert NAMES[job.state] == "waiting"
    found = api.explain(job.name)
    assert found.hindrances[0].reason == "WINDOW_CLOSED"
    assert "blackout" in cli("job", "explain", job.name)
    answer = refused(api.policies.DeleteWindow, policies_pb2.DeleteWindowRequest(name=made.name), timeout=20)
    assert answer["reason"] == "WINDOW_IN_USE"
    stale = policies_pb2.Window(name=made.name, etag='"1"')
    stale.spans.extend(window.spans)
    answer = refused(api.policies.UpdateWindow, policies_pb2.UpdateWindowRequest(window=stale), timeout=20)
    assert answer["reason"] == "ETAG_MISMATCH"
    wide = ParseDict({"name": made.name, "etag": made.etag, "spans": [
        {"days": WEEK, "start_time_of_day": "00:00", "end_time_of_day": "24:00"}]}, policies_pb2.Window())  # fmt: skip
    mask = FieldMask(paths=["spans", "blackouts"])
    opened = api.policies.UpdateWindow(policies_pb2.UpdateWindowRequest(window=wide, update_mask=mask), timeout=20)
    assert opened.open
    assert NAMES[api.until(job.name, *ENDS).state] == "succeeded"
    api.policies.DeleteWindow(policies_pb2.DeleteWindowRequest(name=made.name), timeout=20)


def test_a_window_is_tried_before_it_is_kept_and_its_openings_are_listed(api, cli, unique):
    cli("window", "create", unique, "--open", "mon-fri 22:00-06:00", "--tz", "Europe/Berlin", "--holidays", "DE-BY",
        "--on-close", "pause")  # fmt: skip
    shown = cli("window", "evaluate", unique, "--count", "3").splitlines()
    assert len([line for line in shown if line.startswith("20")]) == 3
    kept = api.policies.GetWindow(policies_pb2.GetWindowRequest(name=f"windows/{unique}"), timeout=20)
    assert MessageToDict(kept)["onClose"] == "WINDOW_CLOSE_ACTION_PAUSE"
    cli("window", "update", unique, "--set", "on_close=stop")
    kept = api.policies.GetWindow(policies_pb2.GetWindowRequest(name=f"windows/{unique}"), timeout=20)
    assert kept.on_close == policies_pb2.WINDOW_CLOSE_ACTION_STOP
    assert [span.end_time_of_day for span in kept.spans] == ["06:00"]
    cli("window", "delete", unique)
    cli("window", "get", unique, code=5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"time_zone": "Mars/Olympus"}, "window.time_zone"),
        ({"holiday_country": "QQ"}, "window.holiday_country"),
        ({"blackouts": [{"first_date": "2026-02-31"}]}, "window.blackouts[0].first_date"),
        ({"spans": [{"days": WEEK, "start_time_of_day": "10:00", "end_time_of_day": "10:00"}]}, "window.spans[0]"),
        ({"spans": []}, "window.spans"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_is_refused_naming_why(api, unique, refused, fields, field):
    window = ParseDict(CLOSED | fields, policies_pb2.Window())
    request = policies_pb2.CreateWindowRequest(window=window, window_id=unique)
    answer = refused(api.policies.CreateWindow, request, timeout=20)
    assert answer["code"] is grpc.StatusCode.INVALID_ARGUMENT
    assert field in answer["fields"]


def test_a_limit_lets_one_run_at_a_time_and_says_what_blocks_the_others(api, drained, unique, cli):
    cli("limit", "create", unique, "--scope", "label", "--label", "vm", "--value", unique, "--running", "1")
    made = [api.create(f"{unique}-{n}", labels={"vm": unique}) for n in range(3)]
    cli("queue", "move", made[2].name)
    api.queue.SetQueueMode(queue_pb2.SetQueueModeRequest(mode=queue_pb2.QUEUE_MODE_OPEN), timeout=20)
    ended = [api.until(job.name, *ENDS) for job in made]
    spans = sorted((job.start_time.ToMicroseconds(), job.end_time.ToMicroseconds(), job.name) for job in ended)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert spans[0][2] == made[2].name  # it was moved to the front
    cli("limit", "update", unique, "--set", "max_running=2")
    assert api.queue.GetLimit(queue_pb2.GetLimitRequest(name=f"limits/{unique}"), timeout=20).max_running == 2
    cli("limit", "delete", unique)


@pytest.mark.parametrize(
    "limit",
    [
        {"scope": "LIMIT_SCOPE_TASK", "max_running": 1},
        {"scope": "LIMIT_SCOPE_ALL", "value": "x", "max_running": 1},
        {"scope": "LIMIT_SCOPE_LABEL", "value": "x", "max_running": 1},
        {"scope": "LIMIT_SCOPE_ALL"},
        {"scope": "LIMIT_SCOPE_ALL", "max_running": 1, "window": "windows/none-such"},
    ],
)
def test_a_limit_that_limits_nothing_is_refused(api, unique, refused, limit):
    request = queue_pb2.CreateLimitRequest(limit=ParseDict(limit, queue_pb2.Limit()), limit_id=unique)
    assert refused(api.queue.CreateLimit, request, timeout=20)["code"] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_drained_queue_is_explained_listed_and_goes_on_after_it_is_opened(api, drained, unique, cli):
    job = api.create(f"{unique}-j")
    found = api.explain(job.name)
    assert found.hindrances[0].reason == "MAINTENANCE"
    assert "upkeep" in found.summary
    assert job.name in cli("queue", "list")
    cli("queue", "open")
    assert NAMES[api.until(job.name, *ENDS).state] == "succeeded"


def test_a_closed_queue_refuses_jobs_and_says_why(api, drained, unique, refused, cli):
    cli("queue", "close", "--reason", "moving house")
    answer = refused(api.jobs.CreateJob, pb.CreateJobRequest(job=api.job(), job_id=f"{unique}-j"), timeout=20)
    assert (answer["code"], answer["reason"]) == (grpc.StatusCode.UNAVAILABLE, "MAINTENANCE")
    cli("queue", "open")


def test_a_job_with_every_reason_to_wait_is_submitted_from_flags(api, unique, cli, tmp_path):
    (tmp_path / "disk.raw").write_bytes(b"x" * 4096)
    specs = {"source_path": tmp_path / "disk.raw", "source_format": "raw", "format": "raw",
             "target_path": tmp_path / "out.raw"}  # fmt: skip
    spec = [part for key, value in specs.items() for part in ("--spec", f"{key}={value}")]
    first = api.create(f"{unique}-a")
    cli("job", "submit", "convert", *spec, "--after", f"{unique}-a:finished", "--deadline", "2099-01-01T00:00:00Z",
        "--max-run", "1h", "--id", f"{unique}-b", "--detach", "--set", "retry_policy.strategy=FIBONACCI")  # fmt: skip
    job = api.until(f"jobs/{unique}-b", *ENDS)
    assert (NAMES[job.state], job.max_run_duration.seconds) == ("succeeded", 3600)
    assert job.retry_policy.strategy == pb.BACKOFF_STRATEGY_FIBONACCI
    assert job.dependencies[0].job == first.name

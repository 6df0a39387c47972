"""A request repeated with its request_id gets the first answer, and nothing is done twice, whatever came in between."""

import time
import uuid

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from hypersdk.api.connections.v1 import connections_pb2, connections_pb2_grpc
from hypersdk.api.events.v1 import events_pb2, events_pb2_grpc
from hypersdk.api.jobs.v1 import job_groups_pb2 as groups_pb
from hypersdk.api.jobs.v1 import job_groups_pb2_grpc, jobs_pb2_grpc
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.api.queue.v1 import queue_pb2, queue_pb2_grpc
from hypersdk.api.storage.v1 import storage_pb2, storage_pb2_grpc

REUSED = (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
ENDS = {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED}


class Api:
    def __init__(self, channel, folder):
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.groups = job_groups_pb2_grpc.JobGroupServiceStub(channel)
        self.queue = queue_pb2_grpc.QueueServiceStub(channel)
        self.storage = storage_pb2_grpc.StorageServiceStub(channel)
        self.connections = connections_pb2_grpc.ConnectionServiceStub(channel)
        self._events = events_pb2_grpc.EventServiceStub(channel)
        self._folder = folder

    def job(self) -> pb.Job:
        """Converts a small disk."""
        (self._folder / "disk.raw").write_bytes(b"x" * 4096)
        spec = {
            "source_path": str(self._folder / "disk.raw"), "source_format": "raw", "format": "raw",
            "target_path": str(self._folder / f"{uuid.uuid4().hex}.raw"),
        }  # fmt: skip
        return ParseDict({"task": "convert", "spec": spec}, pb.Job())

    def create(self) -> str:
        request = pb.CreateJobRequest(job=self.job(), job_id=f"x{uuid.uuid4().hex[:10]}")
        return self.jobs.CreateJob(request, timeout=20).name

    def group(self, request_id="") -> groups_pb.CreateJobGroupRequest:
        members = [groups_pb.JobGroupMember(key=key, job=self.job()) for key in ("a", "b")]
        return groups_pb.CreateJobGroupRequest(
            job_group=groups_pb.JobGroup(members=members), job_group_id=f"x{uuid.uuid4().hex[:10]}",
            request_id=request_id,
        )  # fmt: skip

    def get(self, name) -> pb.Job:
        return self.jobs.GetJob(pb.GetJobRequest(name=name), timeout=20)

    def mode(self, mode, **fields) -> queue_pb2.Queue:
        return self.queue.SetQueueMode(queue_pb2.SetQueueModeRequest(mode=mode, **fields), timeout=20)

    def events(self, type_, *subjects) -> int:
        """How many there were."""
        wanted = " OR ".join(f'subject = "{subject}"' for subject in subjects)
        request = events_pb2.ListEventsRequest(filter=f'type = "{type_}" AND ({wanted})', page_size=1000)
        return len(self._events.ListEvents(request, timeout=20).events)

    def order(self, *names) -> list[str]:
        """Of these, as they stand in the queue."""
        entries = self.queue.ListQueue(queue_pb2.ListQueueRequest(page_size=1000), timeout=20).entries
        return [entry.job.name for entry in entries if entry.job.name in names]

    def until_ended(self, name) -> pb.JobState:
        deadline = time.monotonic() + 60
        while (job := self.get(name)).state not in ENDS:
            assert time.monotonic() < deadline, f"{name} stayed {pb.JobState.Name(job.state)}"
            time.sleep(0.05)
        return job.state


@pytest.fixture
def api(daemon, tmp_path):
    with daemon.unix() as channel:
        yield Api(channel, tmp_path)


@pytest.fixture
def drained(api):
    """Nothing starts in this test until it says so."""
    api.mode(queue_pb2.QUEUE_MODE_DRAINING, reason="upkeep")
    yield
    api.mode(queue_pb2.QUEUE_MODE_OPEN)


@pytest.fixture
def request_id():
    return str(uuid.uuid4())


def test_a_repeated_mode_of_the_queue_is_answered_and_not_set_again(api, drained, request_id, refused):
    asked = {"mode": queue_pb2.QUEUE_MODE_CLOSED, "reason": "first", "request_id": request_id}
    first = api.mode(**asked)
    assert (first.mode, first.reason) == (queue_pb2.QUEUE_MODE_CLOSED, "first")
    api.mode(queue_pb2.QUEUE_MODE_DRAINING, reason="after it")
    api.create()  # the queue is another by now
    events = api.events("queue.mode_changed", "queue")
    assert api.mode(**asked) == first
    assert api.events("queue.mode_changed", "queue") == events
    now = api.queue.GetQueue(queue_pb2.GetQueueRequest(), timeout=20)
    assert (now.mode, now.reason) == (queue_pb2.QUEUE_MODE_DRAINING, "after it")
    other = queue_pb2.SetQueueModeRequest(**asked | {"reason": "second"})
    answer = refused(api.queue.SetQueueMode, other, timeout=20)
    assert (answer["code"], answer["reason"]) == REUSED


def test_a_repeated_move_is_answered_and_the_job_stays_where_it_was_put_since(api, drained, request_id, refused):
    before, moved = api.create(), api.create()
    asked = {"name": moved, "place": queue_pb2.QUEUE_PLACE_FRONT, "request_id": request_id}
    first = api.queue.MoveJob(queue_pb2.MoveJobRequest(**asked), timeout=20)
    assert api.order(before, moved) == [moved, before]
    api.queue.MoveJob(queue_pb2.MoveJobRequest(name=moved, place=queue_pb2.QUEUE_PLACE_NATURAL), timeout=20)
    assert api.queue.MoveJob(queue_pb2.MoveJobRequest(**asked), timeout=20) == first
    assert api.order(before, moved) == [before, moved]
    assert api.events("job.moved", moved) == 2
    answer = refused(api.queue.MoveJob, queue_pb2.MoveJobRequest(**asked | {"name": before}), timeout=20)
    assert (answer["code"], answer["reason"]) == REUSED


def test_a_repeated_cancel_of_a_group_is_answered_and_spares_what_was_retried_since(api, drained, request_id, refused):
    group = api.groups.CreateJobGroup(api.group(), timeout=20)
    names = [member.job.name for member in group.members]
    asked = groups_pb.CancelJobGroupRequest(name=group.name, request_id=request_id)
    first = api.groups.CancelJobGroup(asked, timeout=20)
    assert first.state == groups_pb.JOB_GROUP_STATE_CANCELLED
    assert api.events("job.cancelled", *names) == 2
    api.jobs.RetryJob(pb.RetryJobRequest(name=names[0]), timeout=20)
    assert api.groups.CancelJobGroup(asked, timeout=20) == first
    assert api.events("job.cancelled", *names) == 2
    other = api.groups.CreateJobGroup(api.group(), timeout=20)
    answer = refused(api.groups.CancelJobGroup, groups_pb.CancelJobGroupRequest(
        name=other.name, request_id=request_id), timeout=20)  # fmt: skip
    assert (answer["code"], answer["reason"]) == REUSED
    api.mode(queue_pb2.QUEUE_MODE_OPEN)
    assert api.until_ended(names[0]) == pb.JOB_STATE_SUCCEEDED


def test_a_repeated_group_is_answered_as_it_was_made(api, drained, request_id):
    asked = api.group(request_id)
    first = api.groups.CreateJobGroup(asked, timeout=20)
    api.groups.CancelJobGroup(groups_pb.CancelJobGroupRequest(name=first.name), timeout=20)
    assert api.groups.CreateJobGroup(asked, timeout=20) == first
    assert not api.order(*(member.job.name for member in first.members))


@pytest.mark.parametrize(
    ("request_class", "undone"),
    [(pb.PauseJobRequest, pb.ResumeJobRequest), (pb.CancelJobRequest, pb.RetryJobRequest)],
)
def test_what_was_undone_since_is_not_done_again_by_a_repetition(api, drained, request_id, request_class, undone):
    name = api.create()
    asked = request_class(name=name, request_id=request_id)
    call, back = (getattr(api.jobs, c.DESCRIPTOR.name.removesuffix("Request")) for c in (request_class, undone))
    first = call(asked, timeout=20)
    back(undone(name=name), timeout=20)
    assert call(asked, timeout=20) == first
    assert api.order(name) == [name]
    api.mode(queue_pb2.QUEUE_MODE_OPEN)
    assert api.until_ended(name) == pb.JOB_STATE_SUCCEEDED


def test_a_repeated_deletion_spares_the_object_that_was_put_there_since(api, tmp_path, request_id, refused):
    connection = connections_pb2.Connection(component="storage/local")
    connection.config["path"] = str(tmp_path)
    made = api.connections.CreateConnection(
        connections_pb2.CreateConnectionRequest(connection=connection, connection_id=f"x{uuid.uuid4().hex[:10]}"),
        timeout=20,
    )
    file = tmp_path / "a.txt"
    file.write_text("first")
    asked = storage_pb2.DeleteObjectRequest(name=f"{made.name}/objects/a.txt", request_id=request_id)
    api.storage.DeleteObject(asked, timeout=60)
    assert not file.exists()
    file.write_text("second")
    api.storage.DeleteObject(asked, timeout=60)
    assert file.read_text() == "second"
    other = storage_pb2.DeleteObjectRequest(name=f"{made.name}/objects/b.txt", request_id=request_id)
    answer = refused(api.storage.DeleteObject, other, timeout=60)
    assert (answer["code"], answer["reason"]) == REUSED

"""Pages, watches that survive a restart, and waiting for jobs."""

import pytest
from google.rpc import code_pb2
from hypersdk.api.events.v1 import events_pb2
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.client import CallOptions, Client, failure_of
from hypersdk.errors import Cancelled, DeadlineExceeded, NotFound, OutOfRange, Unavailable
from unit.client.fake_kernel import FakeKernel, rich, unavailable


def test_a_list_goes_on_over_all_pages(kernel, client):
    for _ in range(5):
        client.jobs.create("export", {})
    assert [job.name for job in client.jobs.list()] == [f"jobs/job-{i}" for i in range(1, 6)]
    assert len([c for c in kernel.calls if c[0] == "ListJobs"]) == 3


def test_a_list_can_be_iterated_again(kernel, client):
    client.jobs.create("export", {})
    jobs = client.jobs.list()
    assert len(list(jobs)) == len(list(jobs)) == 1


def test_connections_that_did_not_answer_are_named(kernel, client):
    kernel.machines = [inventory_pb2.Machine(name=f"connections/a/machines/m{i}") for i in range(3)]
    kernel.unreachable = ["connections/b"]
    found = client.inventory.list_machines()
    assert len(list(found)) == 3
    assert found.unreachable == ["connections/b"]


def test_wait_returns_the_job_as_it_ended_and_tells_of_progress(kernel, client):
    job = client.jobs.create("export", {})
    seen = []

    def on_progress(job):
        seen.append((job.state, job.progress.bytes_done))
        if len(seen) == 1:
            kernel.set_state(job.name, jobs_pb2.JOB_STATE_RUNNING)
            kernel.progress(job.name, 7, 10)
            kernel.set_state(job.name, jobs_pb2.JOB_STATE_SUCCEEDED)

    ended = client.jobs.wait(job.name, on_progress)
    assert ended.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert (jobs_pb2.JOB_STATE_RUNNING, 7) in seen


def test_wait_for_a_job_that_has_ended_returns_at_once(kernel, client):
    job = client.jobs.create("export", {})
    kernel.set_state(job.name, jobs_pb2.JOB_STATE_FAILED)
    assert client.jobs.wait(job.name).state == jobs_pb2.JOB_STATE_FAILED


def test_a_broken_watch_is_resumed_from_its_revision(kernel, client):
    job = client.jobs.create("export", {})
    kernel.set_state(job.name, jobs_pb2.JOB_STATE_RUNNING)
    kernel.failures.append(unavailable())
    watched = client.jobs.watch([job.name], since_revision=1)
    assert next(watched).revision == 2
    kernel.set_state(job.name, jobs_pb2.JOB_STATE_SUCCEEDED)
    assert next(watched).revision == 3
    watched.close()


def test_a_watch_goes_on_when_the_daemon_restarts(tmp_path):
    first = FakeKernel()
    first.start(tmp_path)
    options = CallOptions(backoff_s=0.01, backoff_max_s=0.05, reconnect_s=20.0)
    with Client(first.address, options=options) as client:
        job = client.jobs.create("export", {})
        second = FakeKernel()

        def restart(job):
            if second.address or job.state != jobs_pb2.JOB_STATE_QUEUED:
                return
            first.stop()
            second.jobs = first.jobs
            second._changes = first._changes
            second.start(tmp_path)
            second.set_state(job.name, jobs_pb2.JOB_STATE_SUCCEEDED)

        assert client.jobs.wait(job.name, restart).state == jobs_pb2.JOB_STATE_SUCCEEDED
    second.stop()


def test_a_revision_that_is_gone_starts_the_watch_over(kernel, client):
    job = client.jobs.create("export", {})
    kernel.set_state(job.name, jobs_pb2.JOB_STATE_SUCCEEDED)
    kernel.oldest_revision = 2
    watched = client.jobs.watch([job.name], since_revision=1)
    assert next(watched).job.state == jobs_pb2.JOB_STATE_SUCCEEDED
    watched.close()
    assert [r.since_revision for r in kernel.requests if isinstance(r, jobs_pb2.WatchJobsRequest)] == [1, 0]


def test_wait_for_an_unknown_job_fails_at_once(client):
    with pytest.raises(NotFound):
        client.jobs.wait("jobs/none")


def test_a_wait_ends_at_its_deadline_and_leaves_the_job(kernel, client):
    job = client.jobs.create("export", {})
    with pytest.raises(DeadlineExceeded) as caught:
        client.jobs.wait(job.name, timeout_s=0.05)
    assert caught.value.reason == "WAIT_TIMED_OUT"
    assert kernel.jobs[job.name].state == jobs_pb2.JOB_STATE_QUEUED


def test_a_watch_gives_up_when_nobody_answers(tmp_path):
    options = CallOptions(backoff_s=0.001, backoff_max_s=0.01, reconnect_s=0.05)
    with Client(f"unix:{tmp_path}/none.sock", options=options) as client, pytest.raises(Unavailable):
        next(client.jobs.watch())


def test_closing_a_watch_ends_it_on_the_server(kernel, client):
    job = client.jobs.create("export", {})
    watched = client.jobs.watch([job.name])
    next(watched)
    assert not kernel.watch_ended.is_set()
    watched.close()
    assert kernel.watch_ended.wait(timeout=10)


def test_events_are_resumed_without_loss(kernel, client):
    kernel.events = [events_pb2.Event(name=f"events/{i}", revision=i) for i in (4, 5, 6)]
    watched = client.events.watch(since_revision=4)
    assert [next(watched).revision, next(watched).revision] == [5, 6]
    kernel.events.append(events_pb2.Event(name="events/7", revision=7))
    assert next(watched).revision == 7
    watched.close()


def test_an_event_revision_that_is_gone_is_an_error(kernel, client):
    kernel.failures.append(rich(code_pb2.OUT_OF_RANGE, "gone", "REVISION_GONE"))
    with pytest.raises(OutOfRange):
        next(client.events.watch(since_revision=3))


def test_the_log_of_an_attempt_is_streamed(client):
    assert [line.event for line in client.jobs.logs("jobs/x")] == ["disk_opened", "disk_copied"]


def test_a_failed_job_reads_as_an_error_with_its_reason():
    job = jobs_pb2.Job(name="jobs/x", state=jobs_pb2.JOB_STATE_FAILED)
    job.error.reason, job.error.message = "DISK_FULL", "no space"
    failure = failure_of(job)
    assert (failure.reason, failure.metadata["job"]) == ("DISK_FULL", "jobs/x")
    assert isinstance(failure_of(jobs_pb2.Job(state=jobs_pb2.JOB_STATE_CANCELLED)), Cancelled)
    assert failure_of(jobs_pb2.Job(state=jobs_pb2.JOB_STATE_SUCCEEDED)) is None


async def test_the_async_client_waits_lists_and_retries(kernel, async_client):
    kernel.failures.append(unavailable())
    job = await async_client.jobs.create("export", {"machine": "m"})

    def on_progress(job):
        if job.state == jobs_pb2.JOB_STATE_QUEUED:
            kernel.set_state(job.name, jobs_pb2.JOB_STATE_SUCCEEDED)

    ended = await async_client.jobs.wait(job.name, on_progress)
    assert ended.state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert [j.name async for j in async_client.jobs.list()] == [job.name]
    with pytest.raises(NotFound):
        await async_client.connections.get("connections/none")

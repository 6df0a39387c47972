"""WatchJobs over a real store: the present, then the changes, progress in between."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
from hypersdk.api.jobs.v1 import jobs_pb2 as pb
from hypersdk.errors import NotFound
from hypersdk_kernel.events.bus import Bus
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import Job, JobState, Progress
from hypersdk_kernel.services import present, watch
from hypersdk_kernel.services.jobviews import job_message
from hypersdk_kernel.services.streaming import Page
from hypersdk_kernel.services.watch import JobWatcher
from hypersdk_kernel.store import codec
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store


class FakeJobs:
    """As much of engine.Jobs as a watcher needs, over the store's rows."""

    def __init__(self, store) -> None:
        self.store = store
        self.on_progress = []
        self.before_answer = None
        self.pages_read = 0
        self.lively = {}

    async def unfinished(self, after):
        if self.before_answer is not None:
            await self.before_answer()
        self.pages_read += 1
        return await self.store.read(lambda conn: rows.unfinished_page(conn, 2, after))

    def live(self, job):
        return self.lively.get(job.id, job)

    async def get(self, job_id):
        found = self.store.read_now(lambda conn: rows.get(conn, job_id))
        if found is None:
            raise NotFound(f"no {job_id}", reason="JOB_NOT_FOUND")
        return found

    async def put(self, job_id, state=JobState.QUEUED, **more) -> Job:
        def write(tx):
            job = Job(job_id, f"uid-{job_id}", "export", {}, state, tx.now, tx.now, revision=tx.new_revision(), **more)
            rows.save(tx.conn, job) if rows.exists(tx.conn, job_id) else rows.add(tx, job, ())
            tx.emit(f"job.{state.value}", job.name, "local", {"job": codec.job_to_json(job)}, revision=job.revision)
            return job

        return await self.store.write(write)

    def tell(self, job, done: int) -> None:
        for listener in self.on_progress:
            listener(replace(job, progress=Progress(bytes_done=done)))


@pytest.fixture
async def jobs(tmp_path):
    store = await Store.open(tmp_path / "state.db", ManualClock())
    yield FakeJobs(store)
    await store.close()


@pytest.fixture
def watcher(jobs):
    bus = Bus(jobs.store)
    jobs.store.on_commit.append(bus.publish)
    return JobWatcher(jobs, bus, heartbeat_s=0.2)


@contextlib.asynccontextmanager
async def watching(watcher, **request):
    stream = watcher.stream(pb.WatchJobsRequest(**request))
    try:
        yield messages_of(stream)
    finally:
        await stream.aclose()


async def messages_of(stream):
    """As a client sees them, one by one."""
    async for part in stream:
        for data in part if isinstance(part, Page) else (part.SerializeToString(),):
            yield pb.WatchJobsResponse.FromString(data)


def seen(message) -> tuple:
    return message.revision, message.job.name, message.event_type


async def test_the_present_comes_first_and_its_last_message_carries_the_revision(jobs, watcher):
    await jobs.put("a")
    await jobs.put("b", JobState.RUNNING)
    await jobs.put("c", JobState.FAILED)
    async with watching(watcher) as stream:
        assert [seen(await anext(stream)) for _ in range(2)] == [
            (0, "jobs/a", "job.queued"), (3, "jobs/b", "job.running"),
        ]  # fmt: skip
        await jobs.put("a", JobState.RUNNING)
        assert seen(await anext(stream)) == (4, "jobs/a", "job.running")


async def test_with_nothing_to_show_the_revision_comes_alone(jobs, watcher):
    await jobs.put("c", JobState.SUCCEEDED)
    async with watching(watcher) as stream:
        assert seen(await anext(stream)) == (1, "", "")


async def test_what_changes_while_the_present_is_read_comes_once(jobs, watcher):
    await jobs.put("a")

    async def meanwhile():
        jobs.before_answer = None
        await jobs.put("a", JobState.RUNNING)
        await jobs.put("b")

    jobs.before_answer = meanwhile
    async with watching(watcher) as stream:
        found = [seen(await anext(stream)) for _ in range(2)]
        await jobs.put("a", JobState.SUCCEEDED)
        found.append(seen(await anext(stream)))
    assert found == [(0, "jobs/b", "job.queued"), (1, "jobs/a", "job.running"), (4, "jobs/a", "job.succeeded")]


async def test_from_a_revision_only_changes_come(jobs, watcher):
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED):
        await jobs.put("a", state)
    async with watching(watcher, since_revision=1) as stream:
        assert [seen(await anext(stream))[0] for _ in range(2)] == [2, 3]


async def test_only_named_jobs_are_told_of_ended_ones_too(jobs, watcher):
    await jobs.put("a", JobState.FAILED)
    async with watching(watcher, names=["jobs/a"]) as stream:
        assert seen(await anext(stream)) == (1, "jobs/a", "job.failed")
        await jobs.put("b")
        await jobs.put("a")
        assert seen(await anext(stream)) == (3, "jobs/a", "job.queued")


async def test_a_named_job_that_is_not_there_is_not_found(watcher):
    async with watching(watcher, names=["jobs/nope"]) as stream:
        with pytest.raises(NotFound):
            await anext(stream)


async def test_progress_comes_thinned_with_the_newest_value_and_a_safe_revision(jobs, watcher, monkeypatch):
    monkeypatch.setattr(watch, "PROGRESS_S", 0.05)
    job = await jobs.put("a", JobState.RUNNING)
    async with watching(watcher) as stream:
        await anext(stream)
        for done in range(100):
            jobs.tell(job, done)
        first = await anext(stream)
        for done in range(100, 200):
            jobs.tell(job, done)
        second = await anext(stream)
    assert [m.event_type for m in (first, second)] == ["job.progress"] * 2
    assert [m.job.progress.bytes_done for m in (first, second)] == [99, 199]
    assert first.revision == 1
    assert jobs.on_progress == []


async def test_progress_does_not_follow_the_end(jobs, watcher):
    job = await jobs.put("a", JobState.RUNNING)
    async with watching(watcher) as stream:
        await anext(stream)
        jobs.tell(job, 1)
        await jobs.put("a", JobState.SUCCEEDED, end_time=1.0)
        assert (await anext(stream)).event_type == "job.succeeded"
        assert (await anext(stream)).event_type == ""


async def test_states_only_leaves_progress_out_and_silence_beats(jobs, watcher):
    job = await jobs.put("a", JobState.RUNNING)
    async with watching(watcher, states_only=True) as stream:
        await anext(stream)
        jobs.tell(job, 1)
        beat = await anext(stream)
    assert seen(beat) == (1, "", "")


async def begin(watcher, streams: int) -> list[list]:
    """What each of so many streams that begin at once is told of the present."""

    async def one() -> list:
        found = []
        async with watching(watcher) as stream:
            while not found or not found[-1].revision:
                found.append(await anext(stream))
        return found

    return await asyncio.gather(*(one() for _ in range(streams)))


async def test_streams_that_begin_together_share_each_page_of_the_present_and_each_message(
    jobs, watcher, monkeypatch
):
    written = []
    monkeypatch.setattr(present, "job_message", lambda job: written.append(job.id) or job_message(job))
    for number in range(5):
        await jobs.put(f"q{number}")
    told = await begin(watcher, 20)
    assert all([m.job.name for m in each] == [f"jobs/q{number}" for number in range(5)] for each in told)
    assert all([m.revision for m in each] == [0, 0, 0, 0, 5] for each in told)
    assert len(written) == 5
    assert jobs.pages_read == 4  # of two jobs each, and the end


async def test_a_stream_that_begins_after_a_change_is_given_no_page_from_before_it(jobs, watcher):
    for number in range(6):
        await jobs.put(f"q{number}")
    async with watching(watcher) as first:
        await anext(first)
        await jobs.put("q0", labels={"changed": "yes"})
        (second,) = await begin(watcher, 1)
    assert second[0].job.labels == {"changed": "yes"}
    assert second[-1].revision == 7


async def test_pages_are_shared_among_streams_that_begin_while_much_changes(jobs, watcher):
    await jobs.put("a")

    async def change() -> None:
        await jobs.put("a")

    jobs.before_answer = change  # each reading is of an older revision than those have that begin after it
    told = await begin(watcher, 20)
    assert all(each[-1].job.name == "jobs/a" for each in told)
    assert jobs.pages_read <= 6


async def test_a_page_that_is_shared_shows_the_progress_of_now(jobs, watcher):
    job = await jobs.put("a", JobState.RUNNING)
    await jobs.put("b", JobState.RUNNING)
    await jobs.put("c", JobState.RUNNING)
    async with watching(watcher) as first, watching(watcher) as second:
        assert (await anext(first)).job.progress.bytes_done == 0
        jobs.lively["a"] = replace(job, progress=Progress(bytes_done=7))
        assert (await anext(second)).job.progress.bytes_done == 7
    assert jobs.pages_read < 4


async def test_no_more_of_the_present_is_kept_than_the_limit_and_nothing_without_a_stream(jobs, watcher, monkeypatch):
    monkeypatch.setattr(present, "KEPT_BYTES", 10_000)
    for number in range(20):
        await jobs.put(f"q{number}")
    kept = watcher._present._kept
    async with watching(watcher) as stream:
        for _ in range(15):
            await anext(stream)
        assert 0 < sum(len(page.rows) for page in kept.values()) <= 3
    assert not kept  # which it left in the middle

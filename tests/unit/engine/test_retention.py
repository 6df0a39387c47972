"""Old jobs' folders go; everything else stays."""

import os
import uuid

import pytest
from hypersdk_kernel.engine.retention import Retention
from hypersdk_kernel.engine.rundir import RunDir
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.store import jobs as rows
from hypersdk_kernel.store.engine import Store

DAY = 86_400.0


@pytest.fixture
async def world(tmp_path):
    clock = ManualClock()
    store = await Store.open(tmp_path / "state.db", clock)
    runs = tmp_path / "runs"
    runs.mkdir()

    class World:
        async def job(self, state, age_s):
            uid = str(uuid.uuid4())
            ended = clock.now() - age_s
            job = Job(f"j-{uid[:8]}", uid, "export", {}, state, ended - 10, ended)
            await store.write(lambda tx: rows.add(tx, job, ()))
            RunDir(runs, uid).prepare(1)
            return uid

        async def sweep(self, keep_s=30 * DAY):
            await Retention(store, clock, runs, keep_s).sweep()
            return {path.name for path in runs.iterdir()}

    world = World()
    world.runs = runs
    yield world
    await store.close()


async def test_what_ended_long_ago_goes_and_the_rest_stays(world):
    old = [await world.job(state, 31 * DAY) for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)]
    kept = [
        await world.job(JobState.SUCCEEDED, 29 * DAY),
        await world.job(JobState.PAUSED, 90 * DAY),
        await world.job(JobState.RETRYING, 90 * DAY),
    ]
    left = await world.sweep()
    assert left == set(kept)
    assert not left & set(old)


async def test_a_folder_whose_lock_is_held_stays(world):
    uid = await world.job(JobState.CANCELLED, 90 * DAY)
    fd = RunDir(world.runs, uid).lock()
    assert uid in await world.sweep()
    os.close(fd)
    assert uid not in await world.sweep()


async def test_what_is_no_jobs_folder_is_left_alone(world, tmp_path):
    (world.runs / "notes").mkdir()
    stranger = str(uuid.uuid4())
    (world.runs / stranger).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    link = str(uuid.uuid4())
    (world.runs / link).symlink_to(outside)
    assert await world.sweep() == {"notes", stranger, link}
    assert outside.exists()


async def test_more_than_a_batch(world, monkeypatch):
    from hypersdk_kernel.engine import retention

    monkeypatch.setattr(retention, "BATCH", 3)
    for _ in range(10):
        await world.job(JobState.SUCCEEDED, 31 * DAY)
    assert await world.sweep() == set()


async def test_a_store_of_no_runs_is_fine(world, tmp_path):
    world.runs.rmdir()
    world.runs.mkdir()
    assert await world.sweep() == set()

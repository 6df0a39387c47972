"""A store or a folder of runs that is in trouble when a job is to begin: no fault of the job's, which begins later."""

import errno

import pytest
from hypersdk.errors import FailedPrecondition, ResourceExhausted, Unavailable
from hypersdk_kernel.engine import background, dispatcher
from hypersdk_kernel.engine.rundir import RunDir
from support.trouble import Trouble

ENDS = ("succeeded", "failed", "cancelled")
TROUBLES = {
    "read-only": FailedPrecondition("it is read-only", reason="STORE_READ_ONLY"),
    "full": ResourceExhausted("it is full", reason="DISK_FULL"),
    "away": Unavailable("it is away", reason="STORE_UNAVAILABLE"),
}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(background, "_STORE_RETRY_S", 0.02)
    monkeypatch.setattr(dispatcher, "_REST_S", 0.02)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("call", ["near", "write"])
async def test_a_job_that_cannot_be_begun_for_the_stores_sake_is_begun_later(kernel, monkeypatch, trouble, call):
    store = kernel.dispatcher._store
    failing = Trouble(getattr(store, call), TROUBLES[trouble], 5)
    monkeypatch.setattr(store, call, failing)
    await kernel.jobs.create(kernel.new("j"), actor="test")
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count, kernel.successes()) == ("succeeded", 1, 1), job.error
    assert failing.left == 0


async def test_an_attempt_that_was_begun_without_an_acknowledgement_is_followed_by_another(kernel, monkeypatch):
    store = kernel.dispatcher._store
    monkeypatch.setattr(store, "write", Trouble(store.write, TROUBLES["away"], 1, after=True))
    await kernel.jobs.create(kernel.new("j"), actor="test")
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count, kernel.successes()) == ("succeeded", 2, 1), job.error


async def test_a_folder_of_runs_that_cannot_be_written_fails_no_job(kernel, monkeypatch):
    real, left = RunDir.prepare, [3]

    def prepare(rundir, number):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(rundir, number)

    monkeypatch.setattr(RunDir, "prepare", prepare)
    await kernel.jobs.create(kernel.new("j"), actor="test")
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count, kernel.successes()) == ("succeeded", 1, 1), job.error

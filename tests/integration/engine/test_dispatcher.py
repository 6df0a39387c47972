"""Jobs through real runner processes: each acknowledged job ends once, whatever dies on the way."""

import asyncio
import os
import signal

import pytest
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk_kernel.model.job import AttemptState

ENDS = ("succeeded", "failed", "cancelled")


async def test_a_job_runs_and_leaves_its_result_its_pins_and_its_attempt(kernel):
    made = await kernel.jobs.create(kernel.new(steps=3), actor="test")
    assert made.state.value == "queued"
    job = await kernel.until("j", *ENDS)
    assert job.state.value == "succeeded"
    assert job.result == {"start": 0, "attempt": 1}
    assert job.progress.bytes_done == 3
    assert [(p.distribution, p.components) for p in job.pins] == [("probe", ("task/probe",))]
    (attempt,) = await kernel.jobs.attempts("j", 10, 0)
    assert attempt.state is AttemptState.SUCCEEDED
    assert attempt.runner_pid > 0
    assert kernel.successes() == 1


async def test_a_runner_killed_in_the_middle_is_retried_from_its_checkpoint(kernel):
    await kernel.jobs.create(kernel.new(steps=6, die_at=4), actor="test")
    job = await kernel.until("j", *ENDS)
    assert job.state.value == "succeeded"
    assert job.result == {"start": 4, "attempt": 2}
    states = [a.state for a in await kernel.jobs.attempts("j", 10, 0)]
    assert states == [AttemptState.LOST, AttemptState.SUCCEEDED]
    assert kernel.successes() == 1


async def test_a_permanent_failure_ends_the_job_and_releases_what_it_held(kernel, tmp_path):
    hold = tmp_path / "held"
    await kernel.jobs.create(kernel.new(fail="permanent", hold=str(hold)), actor="test")
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.error["reason"], job.attempt_count) == ("failed", "DATA_LOSS", 1)
    assert not hold.exists()


async def test_a_retryable_failure_is_retried(kernel):
    await kernel.jobs.create(kernel.new(fail="once"), actor="test")
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 2)


async def test_a_cancelled_runner_stops_and_cleans_up(kernel, tmp_path):
    hold = tmp_path / "held"
    await kernel.jobs.create(kernel.new(steps=1000, step_s=0.02, hold=str(hold)), actor="test")
    await kernel.until("j", "running")
    while not hold.exists():
        await asyncio.sleep(0.01)
    asked = await kernel.jobs.cancel("j", actor="test")
    assert asked.cancel_requested
    job = await kernel.until("j", *ENDS)
    assert job.state.value == "cancelled"
    assert not hold.exists()
    assert kernel.successes() == 0


async def test_a_runner_that_does_not_obey_a_cancel_is_killed(kernel):
    kernel.dispatcher.settings = type(kernel.settings)(max_runners=4, cancel_grace_s=0.3)
    await kernel.jobs.create(kernel.new(steps=1, step_s=600.0), actor="test")
    await kernel.until("j", "running")
    await asyncio.sleep(0.3)
    await kernel.jobs.cancel("j", actor="test")
    assert (await kernel.until("j", *ENDS)).state.value == "cancelled"


async def test_a_paused_job_stands_still_and_goes_on(kernel):
    await kernel.jobs.create(kernel.new(steps=60, step_s=0.02), actor="test")
    while (await kernel.jobs.get("j")).progress is None:
        await asyncio.sleep(0.01)
    assert (await kernel.jobs.pause("j", actor="test")).state.value == "paused"
    await asyncio.sleep(0.2)
    before = (await kernel.jobs.get("j")).progress.bytes_done
    await asyncio.sleep(0.3)
    assert (await kernel.jobs.get("j")).progress.bytes_done == before < 60
    assert (await kernel.jobs.resume("j", actor="test")).state.value == "running"
    assert (await kernel.until("j", *ENDS)).state.value == "succeeded"


async def test_a_paused_job_whose_runner_dies_stays_paused_and_resumes_from_its_checkpoint(kernel):
    await kernel.jobs.create(kernel.new(steps=60, step_s=0.02), actor="test")
    while (progress := (await kernel.jobs.get("j")).progress) is None or progress.bytes_done < 2:
        await asyncio.sleep(0.01)  # the second step is told of when the first one's checkpoint is kept
    await kernel.jobs.pause("j", actor="test")
    kernel.dispatcher.runner("j").kill()
    while kernel.dispatcher.runner("j") is not None:
        await asyncio.sleep(0.01)
    assert (await kernel.jobs.get("j")).state.value == "paused"
    await kernel.jobs.resume("j", actor="test")
    job = await kernel.until("j", *ENDS)
    assert job.state.value == "succeeded"
    assert job.result["start"] > 0


async def test_a_queued_job_can_be_held_cancelled_and_queued_again(kernel):
    kernel.dispatcher.draining = True
    await kernel.jobs.create(kernel.new(), actor="test")
    assert (await kernel.jobs.pause("j", actor="test")).state.value == "paused"
    assert (await kernel.jobs.resume("j", actor="test")).state.value == "queued"
    assert (await kernel.jobs.cancel("j", actor="test")).state.value == "cancelled"
    with pytest.raises(FailedPrecondition):
        await kernel.jobs.pause("j", actor="test")
    kernel.dispatcher.draining = False
    assert (await kernel.jobs.retry("j", actor="test")).state.value == "queued"
    assert (await kernel.until("j", *ENDS)).state.value == "succeeded"
    with pytest.raises(FailedPrecondition):
        await kernel.jobs.retry("j", actor="test")


async def test_two_hundred_jobs_at_once_all_succeed_once_and_never_too_many_run(kernel):
    most = 0

    def watch(events):
        nonlocal most
        most = max(most, kernel.dispatcher.running)

    kernel.store.on_commit.append(watch)
    await asyncio.gather(*(kernel.jobs.create(kernel.new(f"j{i}"), actor="test") for i in range(200)))
    for i in range(200):
        assert (await kernel.until(f"j{i}", *ENDS, timeout_s=120)).state.value == "succeeded"
    assert kernel.successes() == 200
    assert most <= 4


async def test_a_restarted_kernel_adopts_the_running_and_there_is_one_result(kernel, registry, tmp_path):
    await kernel.jobs.create(kernel.new(steps=40, step_s=0.03), actor="test")
    while (await kernel.jobs.get("j")).progress is None:
        await asyncio.sleep(0.01)
    pid = kernel.dispatcher.runner("j").pid
    await kernel.stop()
    os.kill(pid, 0)
    await kernel.start()
    job = await kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count, job.result["attempt"]) == ("succeeded", 1, 1)
    assert kernel.successes() == 1


async def test_what_ended_or_died_while_no_kernel_was_there_is_settled_at_the_next_start(kernel):
    await kernel.jobs.create(kernel.new("ends", steps=8, step_s=0.02), actor="test")
    await kernel.jobs.create(kernel.new("dies", steps=400, step_s=0.02), actor="test")
    for name in ("ends", "dies"):
        while (await kernel.jobs.get(name)).progress is None:
            await asyncio.sleep(0.01)
    dies = kernel.dispatcher.runner("dies").pid
    rundir = kernel.dispatcher.runner("ends").rundir
    await kernel.stop()
    os.kill(dies, signal.SIGKILL)
    while rundir.alive():
        await asyncio.sleep(0.02)
    await kernel.start()
    assert (await kernel.until("ends", *ENDS)).attempt_count == 1
    async with asyncio.timeout(30):
        while (await kernel.jobs.get("dies")).attempt_count < 2:  # RUNNING it is at once: that is how it was left
            await asyncio.sleep(0.01)
    await kernel.jobs.cancel("dies", actor="test")
    assert (await kernel.until("dies", *ENDS)).state.value == "cancelled"
    assert kernel.successes() == 1


@pytest.mark.parametrize(
    ("spec", "field"),
    [({"steps": -1}, "job.spec.steps"), ({"other": 1}, "job.spec"), ({"count": 5}, "job.spec.count")],
)
async def test_a_wrong_spec_is_refused_naming_the_field(kernel, spec, field):
    with pytest.raises(InvalidArgument) as refused:
        await kernel.jobs.create(kernel.new(**spec), actor="test")
    assert [v.field for v in refused.value.violations] == [field]
    assert await kernel.jobs.counts() == {}


async def test_validate_only_changes_nothing(kernel):
    await kernel.jobs.create(kernel.new(), actor="test", validate_only=True)
    assert await kernel.jobs.counts() == {}
    kernel.dispatcher.draining = True
    await kernel.jobs.create(kernel.new(), actor="test")
    rehearsed = await kernel.jobs.cancel("j", actor="test", validate_only=True)
    assert rehearsed.state.value == "cancelled"
    assert (await kernel.jobs.get("j")).state.value == "queued"
    assert "j" in kernel.dispatcher.queue

"""Brief tasks in warm workers: run once each, survive the worker and the kernel, obey cancel and gates."""

import asyncio
import json
import os
import signal
import textwrap

import pytest
from hypersdk.errors import FailedPrecondition, Unavailable
from hypersdk.plugin.manifest import Manifest
from hypersdk_kernel.engine import background, dispatcher
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.job import NewJob
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin
from hypersdk_kernel.model.retry import RetryPolicy
from integration.engine.conftest import Kernel
from support.trouble import Trouble

TINY = '''
import os, time
from hypersdk.errors import DataLoss, Unavailable
from hypersdk.plugin import Task

class Tiny(Task):
    def run(self, context):
        spec = context.spec
        if spec.get("fail") == "permanent":
            raise DataLoss("bad bytes")
        if spec.get("fail") == "once" and context.attempt == 1:
            raise Unavailable("come back")
        if spec.get("die") and context.attempt == 1:
            os.kill(os.getpid(), 9)
        for _ in range(spec.get("spins", 0)):
            context.check()
            time.sleep(0.01)
        if spec.get("keep"):
            context.save_checkpoint({})
        with open(spec["count"], "a") as file:
            file.write(context.job + "\\n")
        if spec.get("say"):
            context.log("said", words=spec["say"])
        return {"pid": os.getpid(), "attempt": context.attempt}
'''
ENDS = ("succeeded", "failed", "cancelled")


@pytest.fixture
def registry(tmp_path):
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "tiny_plugin.py").write_text(textwrap.dedent(TINY))
    manifest = {
        "manifest_version": 1, "name": "tiny", "api_version": "1.0",
        "components": {"task/tiny": {"capabilities": ["brief"], "spec_schema": {"type": "object"}}},
    }  # fmt: skip
    generation = Generation(
        "tiny", 1, "tiny", "1.0", "cd" * 32, "installed", GenerationState.ACTIVE,
        {"task/tiny": "tiny_plugin:Tiny"}, Manifest.parse(json.dumps(manifest)), (str(folder),),
    )  # fmt: skip
    return Registry([Plugin("tiny", "tiny", "", (generation,))])


@pytest.fixture
async def kernel(tmp_path, registry, database):
    made = await Kernel(tmp_path, registry, RunnerSettings(max_runners=1, cancel_grace_s=5.0), database).start()
    yield made
    await made.stop()


def tiny(kernel, name, **spec):
    return NewJob(name, "tiny", {"count": str(kernel.count), **spec}, retry=RetryPolicy(3, 0.01))


def runs(kernel):
    return kernel.count.read_text().split() if kernel.count.exists() else []


async def test_many_brief_jobs_share_a_few_warm_processes_and_each_runs_once(kernel):
    made = await kernel.jobs.create_many([tiny(kernel, f"t{n}") for n in range(300)], actor="test")
    ended = [await kernel.until(job.id, *ENDS) for job in made]
    assert {job.state.value for job in ended} == {"succeeded"}
    assert sorted(runs(kernel)) == sorted(f"jobs/t{n}" for n in range(300))
    assert len({job.result["pid"] for job in ended}) <= 2
    assert ended[0].pins[0].digest == "cd" * 32


async def test_a_failure_is_retried_or_final_as_its_error_says(kernel):
    await kernel.jobs.create(tiny(kernel, "once", fail="once"), actor="test")
    await kernel.jobs.create(tiny(kernel, "never", fail="permanent"), actor="test")
    once, never = await kernel.until("once", *ENDS), await kernel.until("never", *ENDS)
    assert (once.state.value, once.result["attempt"]) == ("succeeded", 2)
    assert (never.state.value, never.error["reason"]) == ("failed", "DATA_LOSS")


async def test_what_a_worker_had_not_told_when_it_died_is_run_again_and_what_it_had_journaled_is_not(kernel):
    await kernel.jobs.create_many(
        [tiny(kernel, "before"), tiny(kernel, "dies", die=True), tiny(kernel, "after")], actor="test"
    )
    ended = {name: await kernel.until(name, *ENDS) for name in ("before", "dies", "after")}
    assert {job.state.value for job in ended.values()} == {"succeeded"}
    assert ended["dies"].result["attempt"] == 2


async def test_what_succeeded_earlier_in_the_batch_of_a_worker_that_was_killed_is_not_run_again(kernel):
    news = [tiny(kernel, f"t{n}") for n in range(20)] + [tiny(kernel, "dies", die=True)]
    await kernel.jobs.create_many(news, actor="test")
    ended = [await kernel.until(new.id, *ENDS) for new in news]
    assert {job.state.value for job in ended} == {"succeeded"}
    assert sorted(runs(kernel)) == sorted(f"jobs/{new.id}" for new in news)


async def test_a_brief_task_has_no_checkpoint_and_is_told_so(kernel):
    await kernel.jobs.create(tiny(kernel, "keeps", keep=True), actor="test")
    job = await kernel.until("keeps", *ENDS)
    assert (job.state.value, job.error["reason"]) == ("failed", "TASK_BRIEF")


async def test_a_running_brief_job_can_be_cancelled_at_its_next_check(kernel):
    await kernel.jobs.create(tiny(kernel, "long", spins=3000), actor="test")
    while not kernel.dispatcher.runner("long"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    await kernel.jobs.cancel("long", actor="test")
    assert (await kernel.until("long", *ENDS)).state.value == "cancelled"
    assert runs(kernel) == []


async def test_what_a_brief_task_logs_is_found_where_every_attempts_log_is(kernel):
    await kernel.jobs.create(tiny(kernel, "says", say="hello"), actor="test")
    job = await kernel.until("says", *ENDS)
    line = json.loads((kernel.jobs.attempt_dir(job.uid, 1) / "log.jsonl").read_text())
    assert (line["event"], line["fields"]) == ("said", {"words": "hello"})


async def test_a_restarted_kernel_takes_the_outcomes_that_the_old_ones_worker_journaled(tmp_path, registry, database):
    first = await Kernel(tmp_path, registry, RunnerSettings(), database).start()
    await first.jobs.create_many([tiny(first, f"t{n}", spins=5) for n in range(8)], actor="test")
    while not first.dispatcher.runner("t0"):
        await asyncio.sleep(0.01)
    await first.stop()  # hangs up; the worker finishes its batch and ends
    second = await Kernel(tmp_path, registry, RunnerSettings(), database).start()
    ended = [await second.until(f"t{n}", *ENDS) for n in range(8)]
    assert {(job.state.value, job.attempt_count) for job in ended} == {("succeeded", 1)}
    assert sorted(runs(second)) == sorted(f"jobs/t{n}" for n in range(8))
    assert not list((tmp_path / "runs" / "brief").glob("*/journal.jsonl")) or second.dispatcher._briefs.jobs == set()
    await second.stop()


async def test_jobs_whose_worker_was_killed_while_no_kernel_lived_are_run_again(tmp_path, registry, database):
    first = await Kernel(tmp_path, registry, RunnerSettings(), database).start()
    await first.jobs.create(tiny(first, "t", spins=200), actor="test")
    while not (runner := first.dispatcher.runner("t")):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    pid = runner.pid
    await first.stop()
    os.kill(pid, signal.SIGKILL)
    second = await Kernel(tmp_path, registry, RunnerSettings(), database).start()
    job = await second.until("t", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 2)
    await second.stop()


@pytest.mark.parametrize("call", ["near", "write"])
async def test_brief_jobs_that_cannot_be_begun_for_the_stores_sake_are_begun_later(kernel, monkeypatch, call):
    monkeypatch.setattr(background, "_STORE_RETRY_S", 0.02)
    monkeypatch.setattr(dispatcher, "_REST_S", 0.02)
    store = kernel.dispatcher._store
    read_only = FailedPrecondition("it is read-only", reason="STORE_READ_ONLY")
    monkeypatch.setattr(store, call, Trouble(getattr(store, call), read_only, 3))
    made = await kernel.jobs.create_many([tiny(kernel, f"t{n}") for n in range(20)], actor="test")
    ended = [await kernel.until(job.id, *ENDS) for job in made]
    assert {(job.state.value, job.attempt_count) for job in ended} == {("succeeded", 1)}
    assert sorted(runs(kernel)) == sorted(job.name for job in made)


async def test_brief_attempts_whose_beginning_was_committed_and_not_acknowledged_are_followed_by_others(
    kernel, monkeypatch
):
    monkeypatch.setattr(background, "_STORE_RETRY_S", 0.02)
    store = kernel.dispatcher._store
    away = Unavailable("it is away", reason="STORE_UNAVAILABLE")
    monkeypatch.setattr(store, "write", Trouble(store.write, away, 1, after=True))
    made = await kernel.jobs.create_many([tiny(kernel, f"t{n}") for n in range(3)], actor="test")
    ended = [await kernel.until(job.id, *ENDS) for job in made]
    assert {job.state.value for job in ended} == {"succeeded"}
    assert sorted(runs(kernel)) == sorted(job.name for job in made)

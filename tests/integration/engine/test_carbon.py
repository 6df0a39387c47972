"""A job that may wait asks a carbon source once, says why it waits, and runs at the chosen time: with runners, and a
clock that stands still."""

import asyncio
from dataclasses import replace

import pytest
from hypersdk.errors import InvalidArgument, Unavailable
from hypersdk.plugin.manifest import Manifest
from hypersdk_kernel.engine.carbon import CarbonGate
from hypersdk_kernel.engine.runnersettings import RunnerSettings
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.delay import Delay
from hypersdk_kernel.model.plugin import Generation, GenerationState, Plugin

from .conftest import Kernel

HOUR = 3600.0
MANIFEST = '{"manifest_version": 1, "name": "c", "api_version": "1.1", "components": {"carbon/fake": {}}}'


class Source:
    """A host that answers `Delay` as the test says."""

    def __init__(self):
        self.asked = []
        self.answer = lambda request: {"start_s": request["earliest_s"] + 2 * HOUR, "reason": "the wind rises at two"}

    async def ask(self, component, service, method, request, connection, timeout_s, accept):
        self.asked.append(request)
        return accept(component, self.answer(request))


@pytest.fixture
def source():
    return Source()


@pytest.fixture
async def green(tmp_path, registry, source, database):
    """A kernel with the gate, on a clock of its own; `boot` starts another on the same state."""
    generation = Generation(
        "c", 1, "c", "1.0", "cd" * 32, "installed", GenerationState.ACTIVE, {"carbon/fake": "m:C"},
        Manifest.parse(MANIFEST), (),
    )  # fmt: skip
    both = Registry([*registry.plugins(), Plugin("c", "c", "", (generation,))])
    clock = ManualClock()
    started = []

    def with_gate(kernel):
        dispatcher = kernel.dispatcher
        dispatcher.admission.gates.append(
            CarbonGate(kernel.store, clock, both, source, dispatcher.persist, dispatcher.admission.reconsider)
        )

    async def boot():
        made = Kernel(tmp_path, both, RunnerSettings(max_runners=4, cancel_grace_s=5.0), database, clock)
        made.prepare = with_gate
        started.append(await made.start())
        return made

    made = await boot()
    made.boot = boot
    yield made
    for each in started:
        for runner in list(each.dispatcher.runners.values()):
            runner.kill()
        await each.stop()


def waiting(green, **fields):
    delay = fields.pop("delay", Delay("fake", "DE", 8 * HOUR))
    return replace(green.new(), delay=delay, **fields)


async def planned(green):
    async with asyncio.timeout(20):
        while (job := await green.jobs.get("j")).planned_start is None:
            await asyncio.sleep(0.01)
        return job


async def held(green):
    """The planned job, once the hold with its reason is stored."""
    async with asyncio.timeout(20):
        while (job := await green.jobs.get("j")).next_attempt_time is None:
            await asyncio.sleep(0.01)
        return job


async def test_it_waits_explains_why_and_runs_at_the_chosen_time(green, source):
    begin = green.clock.now()
    made = await green.jobs.create(waiting(green, labels={"env": "lab"}), actor="test")
    assert made.state.value == "waiting"
    await planned(green)
    job = await held(green)
    assert (job.state.value, job.state_message) == ("waiting", "the wind rises at two")
    assert (job.planned_start, job.next_attempt_time) == (begin + 2 * HOUR, begin + 2 * HOUR)
    assert green.dispatcher.admission.hold_of("j").reason == "DELAYED"
    (request,) = source.asked
    assert request == {
        "job": "jobs/j", "task": "probe", "labels": {"env": "lab"}, "region": "DE", "earliest_s": begin,
        "latest_s": begin + 8 * HOUR, "expected_s": HOUR,
    }  # fmt: skip
    green.clock.advance(2 * HOUR - 1)
    green.dispatcher.admission.alarms.ring_due()
    assert (await green.jobs.get("j")).state.value == "waiting"
    green.clock.advance(1)
    green.dispatcher.admission.alarms.ring_due()
    await green.until("j", "succeeded")
    assert len(source.asked) == 1
    assert green.successes() == 1


async def test_no_advice_makes_it_start_later_than_the_job_allows(green, source):
    source.answer = lambda request: {"start_s": request["latest_s"] + 9999, "reason": "some day"}
    begin = green.clock.now()
    await green.jobs.create(waiting(green), actor="test")
    job = await planned(green)
    assert job.planned_start == begin + 8 * HOUR
    assert "cut to what the job allows" in job.planned_reason


async def test_it_starts_early_enough_to_end_by_its_deadline(green, source):
    begin = green.clock.now()
    await green.jobs.create(waiting(green, deadline=begin + 3 * HOUR), actor="test")
    await planned(green)
    assert source.asked[0]["latest_s"] == begin + 2 * HOUR


async def test_without_time_to_wait_nobody_is_asked(green, source):
    await green.jobs.create(waiting(green, deadline=green.clock.now() + 0.5 * HOUR), actor="test")
    await green.until("j", "succeeded")
    assert source.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"start_s": "soon", "reason": "x"}, {"start_s": float("nan"), "reason": "x"}, {"start_s": 1.0},
        {"start_s": True, "reason": "x"}, {"start_s": 1.0, "reason": " "},
    ],
    ids=str,
)  # fmt: skip
async def test_a_source_that_answers_nonsense_costs_the_job_nothing(green, source, answer):
    source.answer = lambda request: answer
    await green.jobs.create(waiting(green), actor="test")
    job = await green.until("j", "succeeded")
    assert job.planned_reason.startswith("started at once: carbon/fake gave no advice")


@pytest.mark.parametrize("error", [Unavailable("away"), InvalidArgument("region?"), RuntimeError("a defect")])
async def test_a_source_that_fails_costs_the_job_nothing(green, source, error):
    def fail(request):
        raise error

    source.answer = fail
    await green.jobs.create(waiting(green), actor="test")
    job = await green.until("j", "succeeded")
    assert "started at once" in job.planned_reason
    assert job.planned_start == green.clock.now()


async def test_a_restarted_kernel_keeps_the_plan_and_does_not_ask_again(green, source):
    await green.jobs.create(waiting(green), actor="test")
    await planned(green)
    await held(green)
    await green.stop()
    again = await green.boot()
    assert again.dispatcher.admission.hold_of("j").reason == "DELAYED"
    assert (await again.jobs.get("j")).planned_reason == "the wind rises at two"
    again.clock.advance(2 * HOUR)
    again.dispatcher.admission.alarms.ring_due()
    await again.until("j", "succeeded")
    assert len(source.asked) == 1


async def test_checking_a_job_asks_nobody(green, source):
    await green.jobs.create(waiting(green), actor="test", validate_only=True)
    await asyncio.sleep(0)
    assert source.asked == []


async def test_a_waiting_job_can_be_cancelled(green, source):
    await green.jobs.create(waiting(green), actor="test")
    await planned(green)
    await green.jobs.cancel("j", actor="test")
    assert (await green.jobs.get("j")).state.value == "cancelled"
    assert green.successes() == 0


async def test_a_source_that_is_not_there_is_refused(green):
    with pytest.raises(InvalidArgument) as caught:
        await green.jobs.create(waiting(green, delay=Delay("none", "DE", HOUR)), actor="test")
    assert caught.value.reason == "CARBON_SOURCE_UNKNOWN"

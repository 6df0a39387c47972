"""Swaps between generations: calls in flight, bad versions, probation, rollback."""

import asyncio
import os
from dataclasses import replace

import pytest
from hosting_fakes import eventually, make_component, make_plugin, make_pool
from hypersdk.errors import FailedPrecondition, HyperError, Internal, NotFound, Unavailable
from hypersdk_kernel.hosting import gentle, host_process
from hypersdk_kernel.hosting.probation import Probation, ProbationPolicy, speaks_against
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.swap import Swap, SwapPolicy
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.plugin import ActiveComponent, GenerationState

S = GenerationState


class Stage:
    """A plugin with generations 1 (active, sound) and 2 (of `mode`), and everything that swaps them."""

    def __init__(self, mode="ok", seconds=30.0, fresh=None, **pool):
        self.old = make_component()
        new = fresh or replace(make_component(mode=mode).generation, number=2, state=S.INSTALLED)
        self.registry = Registry([make_plugin(self.old).with_generation(new)])
        self.hosts = make_pool(**pool)
        self.events = []
        policy = SwapPolicy(self_check_s=2.0, probation=ProbationPolicy(seconds=seconds))
        self.swap = Swap(self.registry, self.hosts, ManualClock(), policy, lambda *e: self.events.append(e))

    @property
    def new(self):
        return self.registry.plugin("fake").generation(2)

    @property
    def active(self):
        return self.registry.plugin("fake").active.number

    async def call(self, method="GetIt", request=None, timeout_s=5.0):
        component = self.registry.component("task/fake")
        return await self.hosts.call(component, "", method, request or {}, None, timeout_s)

    async def go(self, **kw):
        await self.swap.probe(self.new)
        return self.swap.flip(self.new, **({"watched": True} | kw))

    def state(self, number):
        return self.registry.plugin("fake").generation(number).state


@pytest.fixture
async def stages():
    made = []

    def make(*args, **kw):
        made.append(Stage(*args, **kw))
        return made[-1]

    yield make
    for stage in made:
        await stage.swap.close()
        await stage.hosts.close(0.2)


async def test_new_calls_go_to_the_new_generation_and_those_in_flight_finish_on_theirs(stages):
    stage = stages(seconds=0)
    old_pid = (await stage.call())["pid"]
    slow = asyncio.create_task(stage.call("Sleep", {"seconds": 0.3}))
    await eventually(lambda: stage.hosts.status(stage.old.generation).in_flight_count == 1)
    await stage.go()
    assert (stage.active, stage.state(1)) == (2, S.DRAINING)
    assert (await stage.call())["pid"] != old_pid
    assert (await slow)["pid"] == old_pid
    await eventually(lambda: stage.state(1) is S.RETIRED)
    assert [e[0] for e in stage.events] == ["plugin.retired"]
    assert stage.hosts.status(stage.old.generation).pid == 0


@pytest.mark.parametrize(
    ("mode", "reason", "cause"),
    [
        ("die", "HOST_START_FAILED", "PEER_GONE"),
        ("refuse", "HOST_START_FAILED", "PLUGIN_IMPORT_FAILED"),
        ("garbage", "HOST_START_FAILED", "FRAME_INVALID"),
        ("protocol", "HOST_START_FAILED", "HANDSHAKE_INVALID"),
        ("api", "HOST_START_FAILED", "HANDSHAKE_INVALID"),
        ("fewer", "HOST_START_FAILED", "HANDSHAKE_INVALID"),
        ("more", "HOST_START_FAILED", "HANDSHAKE_INVALID"),
        ("unwell", "PLUGIN_SELF_CHECK_FAILED", "PLUGIN_SELF_CHECK_FAILED"),
    ],
)
async def test_a_bad_version_is_refused_and_the_old_one_never_stops(stages, mode, reason, cause):
    stage = stages(mode)
    pid = (await stage.call())["pid"]
    with pytest.raises(FailedPrecondition) as caught:
        await stage.swap.probe(stage.new)
    assert (caught.value.reason, caught.value.metadata["cause"]) == (reason, cause)
    assert (await stage.call())["pid"] == pid
    assert stage.hosts.status(stage.new).pid == 0


async def test_a_version_that_hangs_at_its_start_is_refused_in_time(stages):
    stage = stages("hang", start_s=0.3)
    with pytest.raises(FailedPrecondition, match="not activated"):
        await stage.swap.probe(stage.new)


@pytest.mark.parametrize("mode", ["dies", "errs", "hangs"])
async def test_a_version_that_turns_bad_costs_no_idempotent_call_and_is_taken_back(stages, mode):
    stage = stages(mode, heartbeat_s=0.1, heartbeat_timeout_s=0.2)
    pid = (await stage.call())["pid"]
    await stage.go()
    timeout_s = 2.4 if mode == "hangs" else 10.0
    answers = await asyncio.gather(*(stage.call(timeout_s=timeout_s) for _ in range(20)))
    assert {a["pid"] for a in answers} == {pid}
    assert stage.active == 1
    failed = stage.registry.plugin("fake").generation(2)
    assert (failed.state, failed.failure_reason) == (S.FAILED, "PLUGIN_PROBATION_FAILED")
    assert failed.failure_message
    assert stage.events[0][0] == "plugin.rolled_back"
    assert stage.events[0][1].number == 1
    assert (await stage.call())["pid"] == pid
    await stage.swap.drained(failed)
    assert stage.hosts.status(failed).pid == 0


async def test_calls_with_effects_are_not_repeated_when_the_fresh_host_dies(stages):
    stage = stages("dies")
    await stage.go()
    with pytest.raises(Unavailable) as caught:
        await stage.call("Create")
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert stage.active == 1
    assert (await stage.call("Create"))["pid"]


async def test_a_few_errors_among_many_calls_do_not_fail_a_probation():
    component, verdicts = make_component(), []
    fresh = replace(component.generation, number=2)
    probation = Probation(fresh, component.generation, ProbationPolicy(), lambda _, cause: verdicts.append(cause))
    for _ in range(100):
        probation.answered()
    for _ in range(24):
        probation.erred(component, "GetIt", Internal("x"))
    assert not verdicts
    for _ in range(3):
        probation.erred(component, "GetIt", Internal("x"))
    assert len(verdicts) == 1
    assert probation.failed
    probation.crashed("again")
    assert len(verdicts) == 1


def test_only_errors_that_are_its_own_and_not_declared_speak_against_a_version():
    component = make_component()
    declares = ActiveComponent(replace(component.manifest, errors=("PLATFORM_AWAY",)), component.generation)
    policy = ProbationPolicy()
    assert speaks_against(declares, Unavailable("x", reason="OTHER"), 0.1, policy)
    assert not speaks_against(declares, Unavailable("x", reason="PLATFORM_AWAY"), 0.1, policy)
    assert not speaks_against(component, NotFound("x"), 0.1, policy)


async def test_a_second_swap_ends_the_first_ones_probation_and_the_way_back_is_warm(stages):
    stage = stages()
    await stage.call()
    await stage.go()
    old = stage.registry.plugin("fake").generation(1)
    await stage.swap.probe(old)
    stage.swap.flip(old, watched=True)
    assert (stage.active, stage.state(2)) == (1, S.DRAINING)
    stage.swap.flip(stage.new, watched=False)
    await eventually(lambda: stage.state(1) is S.RETIRED)
    assert stage.active == 2


async def test_after_its_probation_a_version_is_on_its_own(stages):
    stage = stages(seconds=0.05)
    await stage.go()
    await eventually(lambda: stage.state(1) is S.RETIRED)
    assert (await stage.call())["ok"]
    assert stage.active == 2


async def test_no_call_is_lost_or_answered_wrongly_over_many_swaps_under_load(stages):
    stage = stages(seconds=0)
    failures, calls, running = [], 0, True

    async def client():
        nonlocal calls
        while running:
            number = stage.active
            try:
                answer = await stage.call()
                assert answer["params"]["component"] == "task/fake"
            except HyperError as exc:
                failures.append((number, exc))
            calls += 1

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for turn in range(12):
        target = stage.registry.plugin("fake").generation(2 - turn % 2)
        await stage.swap.probe(target)
        stage.swap.flip(target, watched=False)
        await asyncio.sleep(0.01)
    running = False
    await asyncio.gather(*clients)
    assert failures == []
    assert calls > 100


async def test_a_generation_that_another_plugin_conflicts_with_is_not_flipped_to(stages):
    stage = stages()
    other = make_component("task/other", plugin="other")
    stage.registry.put(make_plugin(other))
    clash = replace(make_component("task/other").generation, number=2)
    with pytest.raises(FailedPrecondition) as caught:
        stage.swap.flip(clash, watched=True)
    assert caught.value.reason == "COMPONENT_CONFLICT"
    assert stage.active == 1
    assert (await stage.call())["ok"]


@pytest.mark.skipif(not gentle.possible(), reason="needs CAP_SYS_NICE: without it no host gives way")
async def test_a_host_gives_way_while_it_is_tried_and_is_an_equal_when_it_serves(stages, monkeypatch):
    stage, given = stages(), []
    give_way = gentle.give_way
    monkeypatch.setattr(host_process, "give_way", lambda pid: (give_way(pid), given.append(nice_of(pid))))
    await stage.call()
    assert given == []  # who is waited for does not give way
    await stage.go()
    pid = (await stage.call())["pid"]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert given == [{min(19, own + gentle.STEPS)}]
    assert nice_of(pid) == {own}


def nice_of(pid):
    """Of all its threads."""
    return {os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir(f"/proc/{pid}/task")}

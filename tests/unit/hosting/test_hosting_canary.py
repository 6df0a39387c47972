"""Canaries: an exact share of calls and jobs, withdrawn when they turn bad, one generation to a list and to a job."""

import asyncio
from dataclasses import replace

import pytest
from hosting_fakes import eventually, make_component, make_plugin, make_pool
from hypersdk.api.inventory.v1 import inventory_pb2
from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.manifest import ComponentManifest
from hypersdk_kernel.engine import taskspec
from hypersdk_kernel.hosting import pagetoken
from hypersdk_kernel.hosting.probation import Probation, ProbationPolicy
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.hosting.routes import api_routes
from hypersdk_kernel.hosting.swap import Swap, SwapPolicy
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import GenerationState
from hypothesis import given, settings
from hypothesis import strategies as st

S = GenerationState
ROUTES = {route.method: route for route in api_routes()}


def with_canary(component, percent, **changes):
    """The plugin of `component`, with generation 2 as its canary."""
    canary = replace(component.generation, number=2, state=S.CANARY, canary_percent=percent, **changes)
    return make_plugin(component).with_generation(canary)


def numbers(registry, name, count):
    return [registry.turn(name).generation.number for _ in range(count)]


@settings(max_examples=99, deadline=None)
@given(st.integers(1, 99))
def test_of_a_hundred_calls_the_canary_gets_exactly_its_percentage_evenly_spread(percent):
    registry = Registry([with_canary(make_component(), percent)])
    for _ in range(2):
        turns = numbers(registry, "task/fake", 100)
        assert turns.count(2) == percent
        for length in (10, 50):
            assert abs(turns[:length].count(2) - length * percent / 100) < 1


def test_looking_at_a_component_takes_no_turn_and_a_change_elsewhere_keeps_the_count():
    plugin = with_canary(make_component(), 50)
    registry = Registry([plugin])
    assert numbers(registry, "task/fake", 1) == [1]
    assert registry.component("task/fake").generation.number == 1
    assert [c.generation.number for c in registry.components("task")] == [1]
    registry.put(plugin)
    assert numbers(registry, "task/fake", 2) == [2, 1]
    registry.put(plugin.with_generation(replace(plugin.canary, canary_percent=99)))
    assert numbers(registry, "task/fake", 3) == [1, 2, 2]


def test_a_component_that_the_canary_does_not_have_stays_with_the_active_generation():
    plugin = with_canary(make_component(), 99, entries={})
    plugin = plugin.with_generation(
        replace(plugin.canary, manifest=replace(plugin.canary.manifest, components={}))
    )
    registry = Registry([plugin])
    assert set(numbers(registry, "task/fake", 10)) == {1}
    assert registry.draw().component("task/fake").generation.number == 1


def test_a_job_gets_all_its_components_of_a_plugin_from_one_generation_and_jobs_share_alike():
    task = make_component("task/fake", plugin="fake")
    format_ = ComponentManifest(kind="format", id="fake", aliases=(), concurrency="parallel", methods={})
    task_manifest = replace(task.manifest, uses=("format/*",))
    both = replace(task.generation.manifest, components={"task/fake": task_manifest, "format/fake": format_})
    generation = replace(task.generation, manifest=both, entries={"task/fake": "f:T", "format/fake": "f:F"})
    plugin = make_plugin(replace(task, generation=generation))
    canary = replace(generation, number=2, digest="another", state=S.CANARY, canary_percent=50)
    registry = Registry([plugin.with_generation(canary), make_plugin(make_component("format/other", plugin="other"))])
    pinned = []
    for _ in range(6):
        draw = registry.draw()
        chosen = taskspec.choose(draw, draw.component("task/fake"), [], {})
        assert sorted(c.name for c in chosen) == ["format/fake", "format/other", "task/fake"]
        (mine,) = {c.generation.number for c in chosen if c.generation.plugin_id == "fake"}
        pinned.append(mine)
        registry.turn("task/fake")  # calls have counts of their own
    assert pinned == [1, 2, 1, 2, 1, 2]


class Lister:
    """A HostPool whose hosts list 7 machines each, whose names say which generation named them."""

    def __init__(self):
        self.asked = []

    async def ask(self, component, service, method, request, connection, timeout_s, accept):
        number, start = component.generation.number, int(request.get("page_token") or 0)
        self.asked.append((number, start))
        end = start + request["page_size"]
        items = [f"{connection.name}/machines/{number}-{i}" for i in range(start, min(end, 7))]
        return accept(component, {"machines": [{"name": n} for n in items],
                                  "next_page_token": str(end) if end < 7 else ""})  # fmt: skip


@pytest.fixture
def lister():
    return Lister()


@pytest.fixture
def listing(lister):
    registry = Registry([with_canary(make_component("provider/dir", plugin="dir"), 50)])

    async def resolve(name):
        return ResolvedConnection(name, "provider/dir", {}, {})

    async def names(kind):
        return ["connections/a", "connections/b", "connections/c"]

    router = Router(registry, lister, resolve, names)

    async def pages(parent, size):
        """Machine names by page."""
        token, out = "", []
        while True:
            request = inventory_pb2.ListMachinesRequest(parent=parent, page_size=size, page_token=token)
            answer = await router.call(ROUTES["ListMachines"], request, 5.0)
            out.append([m.name for m in answer.machines])
            token = answer.next_page_token
            if not token:
                return out

    pages.registry = registry
    pages.router = router
    return pages


def generations(names):
    return {name.rpartition("/")[2].partition("-")[0] for name in names}


@pytest.mark.parametrize("size", [2, 3, 5])
async def test_the_pages_of_a_list_all_come_from_the_generation_that_began_it(listing, size):
    begun = []
    for _ in range(4):
        names = [name for page in await listing("connections/a", size) for name in page]
        assert len(names) == 7
        (generation,) = generations(names)
        begun.append(generation)
    assert begun == ["1", "2", "1", "2"]


@pytest.mark.parametrize("size", [2, 3, 4, 10])
async def test_a_merged_list_has_no_source_of_two_generations(listing, size):
    for _ in range(4):
        names = [name for page in await listing("connections/-", size) for name in page]
        assert len(names) == len(set(names)) == 21
        for source in ("a", "b", "c"):
            assert len(generations(n for n in names if n.startswith(f"connections/{source}/"))) == 1


async def test_a_list_that_a_canary_began_outlives_it(listing, lister):
    await listing("connections/a", 10)
    request = inventory_pb2.ListMachinesRequest(parent="connections/a", page_size=3)
    first = await listing.router.call(ROUTES["ListMachines"], request, 5.0)
    assert lister.asked[-1] == (2, 0)
    plugin = listing.registry.plugin("dir")
    listing.registry.put(plugin.with_generation(replace(plugin.canary, state=S.RETIRED, canary_percent=0)))
    request.page_token = first.next_page_token
    await listing.router.call(ROUTES["ListMachines"], request, 5.0)
    assert lister.asked[-1] == (1, 3)


@pytest.mark.parametrize("token", ["~", "~~", "~x~3", "~1", "~²~3", "~-1~", "~1234567890~"])
async def test_a_token_with_a_made_up_mark_is_refused(listing, token):
    request = inventory_pb2.ListMachinesRequest(parent="connections/a", page_token=token)
    with pytest.raises(InvalidArgument) as caught:
        await listing.router.call(ROUTES["ListMachines"], request, 5.0)
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9 - 1), st.text(max_size=50))
def test_a_marked_token_gives_back_its_generation_and_itself(number, token):
    assert pagetoken.unmark(pagetoken.mark(number, token)) == (number, token)


class Stage:
    """A plugin with generation 1 active and 2 (of `mode`) to try."""

    def __init__(self, mode):
        self.old = make_component()
        new = replace(make_component(mode=mode).generation, number=2, state=S.INSTALLED)
        third = replace(make_component().generation, number=3, state=S.INSTALLED)
        plugin = make_plugin(self.old).with_generation(new).with_generation(third)
        self.registry = Registry([plugin], lambda: 77.0)
        self.hosts = make_pool(heartbeat_s=0.1, heartbeat_timeout_s=0.2)
        self.events = []
        self.swap = Swap(
            self.registry, self.hosts, ManualClock(), SwapPolicy(self_check_s=2.0), lambda *e: self.events.append(e)
        )

    def generation(self, number):
        return self.registry.plugin("fake").generation(number)

    def states(self):
        return {g.number: g.state for g in self.registry.plugin("fake").generations}

    async def start(self, number=2, percent=50):
        await self.swap.probe(self.generation(number))
        return self.swap.start_canary(self.generation(number), percent)

    async def call(self, method="GetIt", timeout_s=5.0):
        return await self.hosts.call(self.registry.turn("task/fake"), "", method, {}, None, timeout_s)


@pytest.fixture
async def stages():
    made = []

    def make(mode="ok"):
        made.append(Stage(mode))
        return made[-1]

    yield make
    for stage in made:
        await stage.swap.close()
        await stage.hosts.close(0.2)


async def test_a_sound_canary_serves_its_share_until_it_is_promoted_and_then_all(stages):
    stage = stages()
    await stage.start()
    assert stage.states() == {1: S.ACTIVE, 2: S.CANARY, 3: S.INSTALLED}
    assert stage.generation(2).state_time == 77.0
    pids = [(await stage.call())["pid"] for _ in range(6)]
    assert pids[0] != pids[1]
    assert pids == pids[:2] * 3
    await stage.swap.probe(stage.generation(2))
    stage.swap.flip(stage.generation(2), watched=True)
    assert stage.states() == {1: S.DRAINING, 2: S.ACTIVE, 3: S.INSTALLED}
    assert {(await stage.call())["pid"] for _ in range(6)} == {pids[1]}
    assert stage.generation(2).canary_percent == 0


@pytest.mark.parametrize("mode", ["dies", "errs", "hangs"])
async def test_a_canary_that_turns_bad_is_withdrawn_and_no_idempotent_call_fails(stages, mode):
    stage = stages(mode)
    pid = (await stage.call())["pid"]
    await stage.start()
    answers = await asyncio.gather(*(stage.call(timeout_s=2.4 if mode == "hangs" else 10.0) for _ in range(40)))
    assert {a["pid"] for a in answers} == {pid}
    assert stage.states() == {1: S.ACTIVE, 2: S.FAILED, 3: S.INSTALLED}
    failed = stage.generation(2)
    assert (failed.failure_reason, failed.canary_percent) == ("PLUGIN_PROBATION_FAILED", 0)
    assert [(e[0], e[1].number) for e in stage.events] == [("plugin.canary_withdrawn", 2)]
    assert {(await stage.call())["pid"] for _ in range(4)} == {pid}
    await stage.swap.drained(failed)
    assert stage.hosts.status(failed).pid == 0


async def test_a_withdrawn_canary_finishes_what_it_has_and_can_be_tried_again(stages):
    stage = stages()
    await stage.start(percent=99)
    slow = asyncio.create_task(
        stage.hosts.call(stage.registry.turn("task/fake", 2), "", "Sleep", {"seconds": 0.3}, None, 5.0)
    )
    await eventually(lambda: stage.hosts.status(stage.generation(2)).in_flight_count == 1)
    stage.swap.withdraw_canary("fake")
    assert stage.generation(2).state is S.DRAINING
    assert (await slow)["ok"]
    await eventually(lambda: stage.generation(2).state is S.RETIRED)
    await stage.start()
    assert stage.generation(2).state is S.CANARY


async def test_another_canary_or_another_share_takes_the_place_of_the_one_before(stages):
    stage = stages()
    await stage.start(percent=10)
    await stage.start(percent=40)
    assert stage.generation(2).canary_percent == 40
    await stage.start(number=3, percent=20)
    assert stage.states() == {1: S.ACTIVE, 2: S.DRAINING, 3: S.CANARY}
    await eventually(lambda: stage.generation(2).state is S.RETIRED)
    await stage.swap.probe(stage.generation(2))
    stage.swap.flip(stage.generation(2), watched=False)
    assert (stage.states()[2], stage.states()[3]) == (S.ACTIVE, S.DRAINING)


async def test_a_canary_that_cannot_be_promoted_is_not_stopped_under_its_callers(stages):
    stage = stages("unwell")
    stage.swap.start_canary(stage.generation(2), 50)
    await stage.call()
    pid = (await stage.call())["pid"]
    with pytest.raises(FailedPrecondition, match="not activated"):
        await stage.swap.probe(stage.generation(2))
    await stage.call()
    assert (await stage.call())["pid"] == pid


async def test_what_a_version_did_long_ago_excuses_nothing():
    component, verdicts = make_component(), []
    fresh = replace(component.generation, number=2)
    probation = Probation(fresh, component.generation, ProbationPolicy(), lambda _, cause: verdicts.append(cause))
    for _ in range(100_000):
        probation.answered()
    for _ in range(300):
        probation.erred(component, "GetIt", InvalidArgument("x"))
    assert len(verdicts) == 1

"""Units: the process of a service connection, kept as it is wanted, with stand-ins for processes and for time."""

import asyncio
from dataclasses import replace

import pytest
from hosting_fakes import make_component, make_plugin
from hypersdk.errors import InvalidArgument, Unavailable
from hypersdk_kernel.engine.unit import Api, Unit
from hypersdk_kernel.hosting.backoff import BackoffPolicy
from hypersdk_kernel.hosting.registry import Registry
from hypersdk_kernel.model.clock import ManualClock
from hypersdk_kernel.model.connection import Connection, ResolvedConnection
from hypersdk_kernel.model.plugin import HostState

POLICY = BackoffPolicy(first_delay_s=1.0, max_delay_s=8.0, crashes=3, window_s=60.0, cool_down_s=30.0)
CONNECTION = Connection("gw", "u", "service/gw", {}, 0, 0, revision=1)


class Process:
    pid, resident_bytes, cause = 7, 1, "was ended by signal 9"

    def __init__(self, hosts, generation):
        self.hosts, self.generation, self.peer = hosts, generation, self
        self.alive = True

    async def request(self, method, params, timeout_s):
        self.params = params
        if isinstance(self.hosts.answer, Exception):
            raise self.hosts.answer
        return {}

    async def stop(self, grace_s):
        self.alive = False
        self.hosts.stopped.append(self)


class Hosts:
    def __init__(self):
        self.started, self.stopped, self.blamed, self.answer = [], [], [], {}

    async def start_apart(self, generation, on_end, pass_fds, config):
        made = Process(self, generation)
        made.on_end = on_end
        self.started.append(made)
        return made

    def crashed(self, generation, cause):
        self.blamed.append(generation.number)


class World:
    def __init__(self):
        component = make_component("service/gw", plugin="gw", capabilities=frozenset({"run"}))
        self.registry = Registry([make_plugin(component)])
        self.hosts, self.clock, self.tokens, self.secret = Hosts(), ManualClock(), set(), {}
        self.unit = Unit(
            "connections/gw", self.registry, self.hosts, self.resolve,
            Api("unix:/s", self.mint, self.tokens.discard), self.clock, POLICY,
        )  # fmt: skip

    async def resolve(self, name):
        if isinstance(self.secret, Exception):
            raise self.secret
        return ResolvedConnection(name, "service/gw", {}, self.secret)

    def mint(self, actor):
        token = f"{actor} {len(self.hosts.started)}"
        self.tokens.add(token)
        return token

    def swap(self):
        plugin = self.registry.plugin("gw")
        old = plugin.active
        fresh = replace(old, number=old.number + 1)
        self.registry.put(replace(plugin, generations=(fresh,)))
        self.unit.wake()
        return fresh.number

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds):
        """The clock goes on, and the unit looks again as it would then."""
        self.clock.advance(seconds)
        self.unit.wake()
        await self.settle()


@pytest.fixture
async def world():
    made = World()
    made.unit.want(CONNECTION)
    await made.settle()
    yield made
    await made.unit.stop()


async def test_it_is_started_with_an_address_and_a_token_of_its_own(world):
    (process,) = world.hosts.started
    assert process.params["method"] == "Run"
    request = process.params["request"]
    assert request == {"listeners": {}, "address": "unix:/s", "token": next(iter(world.tokens))}
    assert process.params["redact"] == [request["token"]]
    assert world.unit.status().state is HostState.SERVING


async def test_a_swap_starts_the_new_one_before_it_stops_the_old_one(world):
    number = world.swap()
    await world.settle()
    old, new = world.hosts.started
    assert new.generation.number == number
    assert world.hosts.stopped == [old]
    assert len(world.tokens) == 1
    assert world.unit.status().generation == new.generation.name


async def test_a_new_one_that_does_not_get_ready_leaves_the_old_one_and_is_blamed(world):
    world.hosts.answer = InvalidArgument("no")
    number = world.swap()
    await world.settle()
    old, new = world.hosts.started
    assert world.hosts.stopped == [new]
    assert old.alive
    assert world.hosts.blamed == [number]
    status = world.unit.status()
    assert (status.state, status.last_error) == (HostState.SERVING, "no")
    world.hosts.answer = {}
    await world.pass_time(1)
    assert world.hosts.stopped == [new, old]
    assert len(world.tokens) == 1


async def test_a_vault_that_is_away_speaks_against_no_version(world):
    world.secret = Unavailable("sealed", reason="SECRET_SOURCE_UNAVAILABLE")
    world.swap()
    await world.settle()
    assert world.hosts.blamed == []
    assert world.unit.status().last_error == "sealed"


async def test_a_changed_configuration_that_does_not_work_is_not_the_versions_fault(world):
    world.hosts.answer = InvalidArgument("no such port")
    world.unit.want(replace(CONNECTION, revision=2))
    await world.settle()
    assert world.hosts.blamed == []
    assert world.hosts.started[0].alive


async def test_a_crash_is_waited_out_and_a_crash_loop_is_quarantined_and_ends(world):
    for crash in range(1, 4):
        process = world.hosts.started[-1]
        process.alive = False
        process.on_end(process)
        await world.settle()
        assert world.unit.status().restart_count == crash
        assert len(world.hosts.started) == crash
        if crash < 3:
            assert world.unit.status().state is HostState.BACKING_OFF
            await world.pass_time(8)
            assert len(world.hosts.started) == crash + 1
    assert world.hosts.blamed == [1, 1, 1]
    await world.pass_time(8)
    assert world.unit.status().state is HostState.QUARANTINED
    assert len(world.hosts.started) == 3
    await world.pass_time(22.1)
    assert world.unit.status().state is HostState.SERVING
    assert len(world.tokens) == 1


async def test_what_is_uninstalled_is_stopped(world):
    world.registry.remove("gw")
    world.unit.wake()
    await world.settle()
    assert world.hosts.stopped == world.hosts.started
    assert world.tokens == set()
    assert "service/gw" in world.unit.status().last_error


async def test_a_component_without_a_process_gets_none():
    world = World()
    world.registry = Registry([make_plugin(make_component("service/gw", plugin="gw"))])
    world.unit._registry = world.registry
    world.unit.want(CONNECTION)
    await world.settle()
    assert world.hosts.started == []
    assert "no process" in world.unit.status().last_error
    await world.unit.stop()


async def test_a_stop_while_it_starts_leaves_nothing(world):
    release = asyncio.Event()

    async def slow(method, params, timeout_s):
        await release.wait()

    async def start_apart(generation, on_end, pass_fds, config):
        made = Process(world.hosts, generation)
        made.request = slow
        world.hosts.started.append(made)
        return made

    world.hosts.start_apart = start_apart
    world.swap()
    await world.settle()
    assert len(world.hosts.started) == 2
    await world.unit.stop()
    assert {id(p) for p in world.hosts.stopped} == {id(p) for p in world.hosts.started}
    assert world.tokens == set()

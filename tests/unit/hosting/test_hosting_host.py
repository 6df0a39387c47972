"""A generation's host: when it runs, how many calls it is given, and what is counted."""

import asyncio
import os
import signal

import pytest
from hosting_fakes import eventually, make_component, make_pool
from hypersdk.errors import DeadlineExceeded, Internal, NotFound, ResourceExhausted
from hypersdk.plugin.manifest import MethodPolicy
from hypersdk_kernel.hosting.host import method_policy
from hypersdk_kernel.hosting.stopped import StoppedHosts
from hypersdk_kernel.model.connection import ResolvedConnection
from hypersdk_kernel.model.plugin import HostState


@pytest.fixture
async def pools():
    """A maker of pools that are closed at the end."""
    made = []

    def make(**changes):
        made.append(make_pool(**changes))
        return made[-1]

    yield make
    for pool in made:
        await pool.close(0.2)


async def test_the_first_call_starts_the_host_and_later_ones_share_it(pools):
    pool, component = pools(), make_component()
    assert pool.status(component.generation).state is HostState.IDLE
    answers = await asyncio.gather(*(pool.call(component, "", "GetIt", {}, None, 5) for _ in range(10)))
    assert len({a["pid"] for a in answers}) == 1
    status = pool.status(component.generation)
    assert (status.state, status.call_count, status.error_count) == (HostState.SERVING, 10, 0)
    assert status.pid == answers[0]["pid"]
    assert status.start_time == 1_800_000_000.0
    assert status.resident_bytes > 1 << 20


async def test_a_call_carries_what_the_protocol_says(pools):
    pool, component = pools(), make_component("provider/fake")
    connection = ResolvedConnection("connections/lab", "provider/fake", {"path": "/x"}, {"password": "p"})
    seen = (await pool.call(component, "a.v1.S", "GetIt", {"name": "n"}, connection, 5))["params"]
    assert 4 < seen.pop("timeout_s") <= 5
    assert seen == {
        "component": "provider/fake",
        "method": "GetIt",
        "service": "a.v1.S",
        "request": {"name": "n"},
        "connection": {"name": "connections/lab", "config": {"path": "/x"}, "secrets": {"password": "p"}},
    }


async def test_a_host_sees_neither_secrets_nor_anything_else_of_our_environment(pools, monkeypatch):
    monkeypatch.setenv("HYPERSDK_TOKEN", "hunter2")
    seen = await pools().call(make_component(), "", "Environment", {}, None, 5)
    assert "hunter2" not in str(seen)
    assert seen["argv"][1] == "--fd"


async def test_an_error_of_the_plugin_arrives_as_it_was_raised_and_is_counted(pools):
    pool, component = pools(), make_component()
    with pytest.raises(NotFound) as caught:
        await pool.call(component, "", "Refuse", {}, None, 5)
    assert (caught.value.reason, caught.value.metadata) == ("MACHINE_NOT_FOUND", {"a": "b"})
    assert pool.status(component.generation).error_count == 1


async def test_a_result_that_is_no_message_is_the_plugins_defect(pools):
    with pytest.raises(Internal) as caught:
        await pools().call(make_component(), "", "List", {}, None, 5)
    assert caught.value.reason == "PLUGIN_RESULT_INVALID"


@pytest.mark.parametrize(("concurrency", "at_once"), [("serial", 1), ("per_handle", 2), ("parallel", 6)])
async def test_a_host_is_given_as_many_calls_at_once_as_its_manifest_declares(pools, concurrency, at_once):
    pool, component = pools(), make_component("provider/fake", concurrency=concurrency)
    connections = [ResolvedConnection(f"connections/{c}", "provider/fake", {}) for c in "ab"]
    await pool.call(component, "", "GetIt", {}, connections[0], 5)
    answers = await asyncio.gather(
        *(pool.call(component, "", "Sleep", {"seconds": 0.1}, connections[i % 2], 5) for i in range(6))
    )
    assert max(a["running"] for a in answers) == at_once


async def test_a_serial_component_is_not_called_while_an_abandoned_call_still_runs(pools):
    pool, component = pools(), make_component(concurrency="serial")
    await pool.call(component, "", "GetIt", {}, None, 5)  # its start is not what is timed
    with pytest.raises(DeadlineExceeded):
        await pool.call(component, "", "Sleep", {"seconds": 0.5}, None, 0.3)
    with pytest.raises(DeadlineExceeded, match="busy"):
        await pool.call(component, "", "GetIt", {}, None, 0.02)
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["running"] == 1


async def test_more_calls_than_the_bound_are_refused(pools):
    pool, component = pools(max_in_flight=3), make_component()
    calls = [asyncio.create_task(pool.call(component, "", "Sleep", {"seconds": 0.2}, None, 5)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as caught:
        await pool.call(component, "", "GetIt", {}, None, 5)
    assert caught.value.reason == "HOST_BUSY"
    await asyncio.gather(*calls)
    await pool.call(component, "", "GetIt", {}, None, 5)


async def test_a_host_without_calls_is_stopped_and_comes_back_with_the_next(pools):
    pool, component = pools(idle_s=0.05), make_component()
    first = (await pool.call(component, "", "GetIt", {}, None, 5))["pid"]
    await eventually(lambda: pool.status(component.generation).state is HostState.IDLE)
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["pid"] != first
    assert pool.status(component.generation).restart_count == 0


async def test_a_busy_host_is_not_idle(pools):
    pool, component = pools(idle_s=0.05), make_component()
    await pool.call(component, "", "Sleep", {"seconds": 0.3}, None, 5)
    assert pool.status(component.generation).error_count == 0


async def test_the_manifests_timeout_bounds_a_call_with_a_later_deadline(pools):
    pool, component = pools(), make_component(methods={"Sleep": MethodPolicy(timeout_s=0.2)})
    with pytest.raises(DeadlineExceeded, match="Sleep"):
        await pool.call(component, "", "Sleep", {"seconds": 30}, None, 60)


async def test_a_cancelled_caller_is_not_an_error_of_the_host(pools):
    pool, component = pools(), make_component()
    await pool.call(component, "", "GetIt", {}, None, 5)
    task = asyncio.create_task(pool.call(component, "", "Sleep", {"seconds": 30}, None, 60))
    await eventually(lambda: pool.status(component.generation).in_flight_count == 1)
    task.cancel()
    await asyncio.wait({task})
    assert pool.status(component.generation).error_count == 0
    assert len((await pool.call(component, "", "Environment", {}, None, 5))["cancelled"]) == 1


async def test_a_ping_starts_the_host_and_takes_some_time(pools):
    pool, component = pools(), make_component()
    assert 0 < await pool.ping(component.generation) < 5
    assert pool.status(component.generation).state is HostState.SERVING


async def test_what_a_host_prints_does_not_disturb_its_answers(pools):
    pool, component = pools(), make_component()
    answer = await pool.call(component, "", "Print", {"lines": 20_000}, None, 20)
    assert answer["pid"] == pool.status(component.generation).pid


async def test_closing_ends_every_process_and_leaves_no_descriptor():
    before = len(os.listdir("/proc/self/fd"))
    pool = make_pool()
    pids = [
        (await pool.call(make_component(plugin=f"p{i}"), "", "GetIt", {}, None, 5))["pid"] for i in range(3)
    ]
    await pool.close(1)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_methods_may_be_repeated_unless_the_manifest_says_otherwise():
    plain = make_component(methods={"GetOnce": MethodPolicy(False, 3)})
    assert method_policy(plain, "GetOnce") == MethodPolicy(False, 3)
    for method, idempotent in {"GetDisk": True, "ListDisks": True, "Health": True, "DeleteDisk": False}.items():
        assert method_policy(plain, method).idempotent is idempotent


async def test_a_stopped_host_is_ended_when_it_does_not_go_on_and_left_alone_when_it_does(pools):
    pool, component = pools(), make_component()
    watch = StoppedHosts(pool.processes, grace_s=0.05)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, watch.look)
    try:
        first = (await pool.call(component, "", "GetIt", {}, None, 5.0))["pid"]
        os.kill(first, signal.SIGSTOP)
        os.kill(first, signal.SIGCONT)
        await asyncio.sleep(0.1)
        assert (await pool.call(component, "", "GetIt", {}, None, 5.0))["pid"] == first
        os.kill(first, signal.SIGSTOP)
        assert (await pool.call(component, "", "GetIt", {}, None, 5.0))["pid"] != first
        assert "was stopped by a signal" in pool.status(component.generation).last_error
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

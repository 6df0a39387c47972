"""Hosts that die, hang or talk nonsense while they serve: what callers see, and what comes after."""

import asyncio
import os
import signal

import pytest
from hosting_fakes import eventually, make_component, make_pool
from hypersdk.errors import DeadlineExceeded, Unavailable
from hypersdk.plugin.manifest import MethodPolicy
from hypersdk_kernel.hosting.backoff import BackoffPolicy
from hypersdk_kernel.model.plugin import HostState

pytestmark = pytest.mark.faults


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


async def test_an_idempotent_call_survives_the_death_of_its_host(pools, tmp_path):
    pool, component = pools(), make_component()
    before = await pool.call(component, "", "GetIt", {}, None, 5)
    after = await pool.call(component, "", "GetDeathOnce", {"marker": str(tmp_path / "m")}, None, 5)
    assert after["pid"] != before["pid"]
    status = pool.status(component.generation)
    assert (status.restart_count, status.error_count, status.state) == (1, 0, HostState.SERVING)
    await eventually(lambda: "signal 9" in pool.status(component.generation).last_error)


async def test_a_call_with_effects_is_not_repeated_and_says_that_its_outcome_is_unknown(pools, tmp_path):
    pool, component = pools(), make_component()
    marker = tmp_path / "m"
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "DieOnce", {"marker": str(marker)}, None, 5)
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert not caught.value.retryable
    assert (await pool.call(component, "", "DieOnce", {"marker": str(marker)}, None, 5))["pid"] > 0


async def test_the_manifest_decides_which_method_may_be_repeated(pools, tmp_path):
    pool = pools()
    component = make_component(methods={"DieOnce": MethodPolicy(True), "GetDeathOnce": MethodPolicy(False)})
    await pool.call(component, "", "DieOnce", {"marker": str(tmp_path / "a")}, None, 5)
    with pytest.raises(Unavailable, match="unknown"):
        await pool.call(component, "", "GetDeathOnce", {"marker": str(tmp_path / "b")}, None, 5)


async def test_a_call_that_kills_every_host_is_given_up(pools):
    pool, component = pools(), make_component()
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "GetDeath", {}, None, 5)
    assert caught.value.reason == "HOST_CRASHED"
    assert pool.status(component.generation).restart_count == 3


async def test_bystanders_of_a_crash_are_served_by_the_next_host(pools, tmp_path):
    pool, component = pools(), make_component()
    slow = [asyncio.create_task(pool.call(component, "", "GetSlow", {"seconds": 0.2}, None, 5)) for _ in range(20)]
    await eventually(lambda: pool.status(component.generation).in_flight_count == 20)
    first_pid = pool.status(component.generation).pid
    os.kill(first_pid, signal.SIGKILL)
    answers = await asyncio.gather(*slow)
    assert {a["pid"] for a in answers} != {first_pid}
    assert pool.status(component.generation).restart_count == 1


async def test_five_crashes_quarantine_a_host_which_then_fails_fast_and_comes_back_after_the_cool_down(pools):
    pool, component = pools(attempts=1), make_component()
    for _ in range(5):
        with pytest.raises(Unavailable):
            await pool.call(component, "", "Die", {}, None, 5)
    assert pool.status(component.generation).state is HostState.QUARANTINED
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "GetIt", {}, None, 5)
    assert caught.value.reason == "HOST_QUARANTINED"
    assert 0 < caught.value.retry_after_s <= 0.2
    await eventually(lambda: pool.status(component.generation).state is HostState.IDLE)
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["pid"] > 0
    with pytest.raises(Unavailable):  # on trial: one more crash is enough
        await pool.call(component, "", "Die", {}, None, 5)
    assert pool.status(component.generation).state is HostState.QUARANTINED


async def test_a_stopped_host_is_found_by_its_heartbeat_and_replaced(pools):
    pool, component = pools(heartbeat_s=0.05, heartbeat_timeout_s=0.1), make_component()
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "Stop", {}, None, 5)
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert "ping" in pool.status(component.generation).last_error
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["pid"] > 0


async def test_a_host_that_breaks_the_protocol_is_ended_and_replaced(pools):
    pool, component = pools(), make_component()
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "Garbage", {}, None, 5)
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert "protocol" in pool.status(component.generation).last_error
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["pid"] > 0


async def test_a_grandchild_that_holds_the_socket_open_does_not_hide_the_death(pools):
    pool, component = pools(), make_component()
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "Orphan", {"seconds": 2}, None, 1.5)
    assert caught.value.reason == "OUTCOME_UNKNOWN"


async def test_a_hanging_call_ends_at_its_deadline_and_the_host_goes_on(pools):
    pool, component = pools(), make_component()
    with pytest.raises(DeadlineExceeded, match="GetSlow"):
        await pool.call(component, "", "GetSlow", {"seconds": 30}, None, 0.4)
    seen = await pool.call(component, "", "Environment", {}, None, 5)
    assert len(seen["cancelled"]) == 1
    assert pool.status(component.generation).in_flight_count == 1  # the host is still at it
    assert pool.status(component.generation).restart_count == 0


async def test_a_call_that_never_ends_does_not_keep_a_serial_component_for_ever(pools):
    pool, component = pools(abandoned_s=0.1), make_component(concurrency="serial")
    first = (await pool.call(component, "", "GetIt", {}, None, 5))["pid"]
    with pytest.raises(DeadlineExceeded):
        await pool.call(component, "", "GetSlow", {"seconds": 60}, None, 0.05)
    assert (await pool.call(component, "", "GetIt", {}, None, 5))["pid"] != first
    assert "still at GetSlow" in pool.status(component.generation).last_error


async def test_hosts_killed_at_random_under_load_cost_no_idempotent_call(pools):
    pool = pools(attempts=20, backoff=BackoffPolicy(first_delay_s=0.001, max_delay_s=0.01, crashes=1000))
    component = make_component()
    served_by: list[int] = []

    async def caller(stop: asyncio.Event):
        while not stop.is_set():
            served_by.append((await pool.call(component, "", "GetSlow", {"seconds": 0.002}, None, 20))["pid"])

    async def killer(stop: asyncio.Event):
        for _ in range(6):
            await eventually(lambda: served_by and pool.status(component.generation).pid == served_by[-1])
            crashes = pool.status(component.generation).restart_count
            os.kill(served_by[-1], signal.SIGKILL)
            await eventually(lambda n=crashes: pool.status(component.generation).restart_count > n)
        stop.set()

    stop = asyncio.Event()
    await asyncio.gather(killer(stop), *(caller(stop) for _ in range(8)))
    assert pool.status(component.generation).error_count == 0
    assert len(set(served_by)) >= 6

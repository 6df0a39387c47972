"""Hosts that do not come up, whatever the way in which they fail to."""

import asyncio
import os
import signal
import time

import pytest
from hosting_fakes import make_component, make_pool
from hypersdk.errors import DeadlineExceeded, Unavailable
from hypersdk_kernel.model.plugin import HostState

pytestmark = pytest.mark.faults


@pytest.fixture
async def pool():
    pool = make_pool()
    yield pool
    await pool.close(0.2)


@pytest.mark.parametrize(
    ("mode", "cause", "words"),
    [
        ("refuse", "PLUGIN_IMPORT_FAILED", "no module named x"),
        ("die", "PEER_GONE", "before it was ready"),
        ("garbage", "FRAME_INVALID", "frame"),
        ("huge", "FRAME_INVALID", "1073741824"),
        ("protocol", "HANDSHAKE_INVALID", "protocol 7"),
        ("api", "HANDSHAKE_INVALID", "9.0"),
        ("fewer", "HANDSHAKE_INVALID", "does not serve task/fake"),
        ("text", "HANDSHAKE_INVALID", "no object"),
    ],
)
async def test_a_host_that_does_not_come_up_is_unavailable_with_the_cause(pool, mode, cause, words):
    component = make_component(mode=mode)
    with pytest.raises(Unavailable, match=words) as caught:
        await pool.call(component, "", "GetIt", {}, None, 5)
    assert caught.value.reason == "HOST_START_FAILED"
    assert caught.value.metadata["cause"] == cause
    status = pool.status(component.generation)
    assert status.pid == 0
    assert words in status.last_error


async def test_a_host_that_hangs_on_initialize_is_given_up_in_time_and_killed():
    pool, component = make_pool(start_s=0.2), make_component(mode="hang")
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "GetIt", {}, None, 5)
    assert caught.value.metadata["cause"] == "DEADLINE_EXCEEDED"
    await pool.close(0.2)


async def test_a_caller_with_less_time_than_the_start_takes_gets_its_deadline():
    pool, component = make_pool(start_s=0.5), make_component(mode="hang")
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await pool.call(component, "", "GetIt", {}, None, 0.05)
    assert time.monotonic() - began < 0.4
    await pool.close(0.2)


async def test_a_plugin_that_raises_on_import_ends_in_quarantine_and_the_others_do_not_notice(pool):
    broken, sound = make_component(mode="refuse"), make_component("format/raw", plugin="sound")
    for _ in range(5):
        with pytest.raises(Unavailable, match="no module named x"):
            await pool.call(broken, "", "GetIt", {}, None, 5)
    assert pool.status(broken.generation).state is HostState.QUARANTINED
    with pytest.raises(Unavailable, match="no module named x") as caught:
        await pool.call(broken, "", "GetIt", {}, None, 5)
    assert caught.value.reason == "HOST_QUARANTINED"
    assert (await pool.call(sound, "", "GetIt", {}, None, 5))["pid"] > 0


async def test_a_program_that_is_not_there_is_unavailable():
    pool, component = make_pool(command=("/no-such-program",)), make_component()
    with pytest.raises(Unavailable) as caught:
        await pool.call(component, "", "GetIt", {}, None, 5)
    assert caught.value.reason == "PROCESS_START_FAILED"
    assert pool.status(component.generation).restart_count == 1


async def test_closing_while_hosts_start_leaves_no_caller_behind():
    pool, component = make_pool(), make_component(mode="hang")
    waiting = [asyncio.create_task(pool.call(component, "", "GetIt", {}, None, 5)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await pool.close(0.2)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, Unavailable)
        assert outcome.reason == "KERNEL_STOPPING"
    with pytest.raises(Unavailable, match="stopping"):
        await pool.call(component, "", "GetIt", {}, None, 5)


async def test_a_host_that_ignores_shutdown_is_killed():
    pool, component = make_pool(), make_component(mode="ok")
    process = (await pool.call(component, "", "GetIt", {}, None, 5))["pid"]
    pool._host(component.generation)._process._child.kill(signal.SIGSTOP)  # it cannot even read the request
    began = time.monotonic()
    await pool.close(0.1)
    assert time.monotonic() - began < 3
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)

"""Jobs whose runners are elsewhere: real agents and real runners, over a link that breaks, under kernels that die."""

import asyncio
import os
import signal
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from hypersdk.errors import HyperError, Unavailable
from hypersdk.runner.remotetls import Identity, connect
from hypersdk.wire.rpc import Peer
from hypersdk_kernel.model.job import AttemptState
from hypersdk_kernel.security.attempts import AttemptAuthority, attempt_of
from hypersdk_kernel.security.tls import ensure_tls
from support.remote import LocalExecutor, Remote, order_of, with_executor

ENDS = ("succeeded", "failed", "cancelled")


@pytest.fixture
def database(tmp_path):
    """The store has no part in this; one is enough."""
    from support.databases import Database

    return Database(tmp_path)


@pytest.fixture
def registry(registry):
    return with_executor(registry)


@pytest.fixture
async def remote(kernel, tmp_path):
    made = await Remote(kernel, tmp_path, LocalExecutor(tmp_path)).open()
    yield made
    made.executor.close()
    made.link.close()
    await made.remotes.stop()


async def test_a_job_runs_elsewhere_and_leaves_here_what_it_would_have(remote):
    made = await remote.submit(steps=3, placement={"site": "branch"})
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.result) == ("succeeded", {"start": 0, "attempt": 1}), job.error
    assert job.progress.bytes_done == 3
    (attempt,) = await remote.kernel.jobs.attempts("j", 10, 0)
    assert (attempt.state, attempt.place) == (AttemptState.SUCCEEDED, "executor/fake@")
    records = remote.mirrored(made.uid)
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    assert (records[0]["type"], records[-1]["type"]) == ("started", "finished")
    assert remote.executor.placements == {f"{made.uid}-1": {"site": "branch"}}
    async with asyncio.timeout(10):
        while (remote.node / made.uid).exists():
            await asyncio.sleep(0.02)


async def test_an_agent_that_is_killed_takes_its_runner_along_and_the_job_goes_on_from_its_checkpoint(remote):
    made = await remote.submit(steps=40, step_s=0.05)
    await remote.runs(step=5)
    pid = remote.runner_pid(made.uid)
    os.kill(remote.executor.agents[f"{made.uid}-1"].pid, signal.SIGKILL)
    job = await remote.kernel.until("j", *ENDS)
    assert job.state.value == "succeeded"
    assert job.result["attempt"] == 2
    assert job.result["start"] >= 1
    states = [a.state for a in await remote.kernel.jobs.attempts("j", 10, 0)]
    assert states == [AttemptState.LOST, AttemptState.SUCCEEDED]
    assert not Path(f"/proc/{pid}").exists()
    assert remote.kernel.successes() == 1


async def test_a_runner_that_dies_without_a_word_is_told_by_its_agent(remote):
    await remote.submit(steps=6, die_at=4)
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.result) == ("succeeded", {"start": 4, "attempt": 2})


async def test_a_cancelled_job_ends_and_cleans_up_here(remote, tmp_path):
    hold = tmp_path / "held"
    await remote.submit(steps=1000, step_s=0.02, hold=str(hold))
    await remote.runs()
    await remote.kernel.jobs.cancel("j", actor="test")
    job = await remote.kernel.until("j", *ENDS)
    assert job.state.value == "cancelled"
    assert not hold.exists()


async def test_a_job_that_waits_for_a_machine_is_cancelled_at_once(remote):
    remote.executor.hold = True
    await remote.submit(steps=1)
    await remote.kernel.until("j", "running")
    await remote.kernel.jobs.cancel("j", actor="test")
    assert (await remote.kernel.until("j", *ENDS)).state.value == "cancelled"


async def test_an_order_that_no_machine_takes_is_given_up_and_made_again(remote):
    remote.remotes.settings = replace(remote.remotes.settings, place_s=0.5)
    remote.executor.hold = True
    made = await remote.submit(steps=1)
    async with asyncio.timeout(20):
        while len(remote.executor.submitted) < 2:
            await asyncio.sleep(0.02)
    remote.executor.hold = False
    remote.executor.start(f"{made.uid}-2")
    job = await remote.kernel.until("j", *ENDS)
    assert job.state.value == "succeeded", job.error
    attempts = await remote.kernel.jobs.attempts("j", 10, 0)
    assert attempts[0].error["reason"] == "PLACEMENT_TIMEOUT"


async def test_a_broken_network_is_not_noticed_by_the_task(remote):
    await remote.submit(steps=30, step_s=0.05)
    await remote.runs(step=3)
    remote.link.cut()
    await asyncio.sleep(0.5)
    remote.link.mend()
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 1)
    assert remote.kernel.successes() == 1


async def test_a_restarted_kernel_takes_the_attempt_up_again(remote):
    made = await remote.submit(steps=60, step_s=0.05)
    await remote.runs(step=3)
    await remote.restart()
    runner = await remote.runs(step=6)
    assert runner.number == 1
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 1)
    assert len(remote.executor.agents) == 1
    assert [r["seq"] for r in remote.mirrored(made.uid)] == list(range(1, len(remote.mirrored(made.uid)) + 1))


async def test_what_ended_while_the_kernel_was_away_is_told_to_the_next_one(remote):
    await remote.submit(steps=20, step_s=0.05)
    await remote.runs(step=2)
    await remote.stop()
    async with asyncio.timeout(20):
        while remote.kernel.successes() == 0:
            await asyncio.sleep(0.02)
    await remote.kernel.start()
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 1)


async def test_a_kernel_that_died_before_it_ordered_orders_again_by_the_same_name(remote):
    remote.executor.away = Unavailable("the engine is away")
    made = await remote.submit(steps=2)
    await remote.kernel.until("j", "running")
    await remote.stop()
    remote.executor.away = None
    await remote.kernel.start()
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 1)
    assert remote.executor.submitted == [f"{made.uid}-1"]


async def test_a_lost_node_is_waited_out_and_what_comes_back_from_it_counts_no_more(remote):
    """The kernel cannot know whether the runner lives: it repeats only when that must have ended itself."""
    made = await remote.submit(steps=400, step_s=0.05)
    await remote.runs(step=3)
    pid = remote.runner_pid(made.uid)
    remote.executor.silent = True
    remote.link.cut()
    async with asyncio.timeout(40):
        while (await remote.kernel.jobs.get("j")).attempt_count < 2:
            alive = Path(f"/proc/{pid}").exists()
            await asyncio.sleep(0.05)
    assert not alive, "two runners of one job were at work"
    remote.executor.silent = False
    remote.remotes._settled_at = 0.0  # this kernel has long taken up what there was
    remote.link.mend()
    await remote.runs(step=5)
    async with asyncio.timeout(20):
        while remote.executor.agents[f"{made.uid}-1"].poll() is None:
            await asyncio.sleep(0.05)
    await remote.kernel.jobs.cancel("j", actor="test")
    await remote.kernel.until("j", *ENDS)
    attempts = await remote.kernel.jobs.attempts("j", 10, 0)
    assert attempts[0].state is AttemptState.LOST
    assert all(r["type"] != "finished" for r in remote.mirrored(made.uid, 1))


async def test_pausing_reaches_the_runner_and_outlives_a_restart(remote):
    await remote.submit(steps=100, step_s=0.02)
    await remote.runs(step=3)
    await remote.kernel.jobs.pause("j", actor="test")
    await remote.restart()
    job = await remote.kernel.jobs.get("j")
    assert job.state.value == "paused"
    await remote.kernel.jobs.resume("j", actor="test")
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.attempt_count) == ("succeeded", 1)


async def test_a_slow_link_delays_and_loses_nothing(remote):
    remote.link.delay_s, remote.link.piece = 0.02, 2048
    await remote.submit(steps=10)
    job = await remote.kernel.until("j", *ENDS, timeout_s=60)
    assert (job.state.value, job.attempt_count, job.progress.bytes_done) == ("succeeded", 1, 10)


async def test_a_machine_without_the_plugins_says_so_and_what_to_do(remote, tmp_path):
    remote.executor.hold = True
    made = await remote.submit(steps=1)
    async with asyncio.timeout(10):
        while not remote.executor.orders:
            await asyncio.sleep(0.01)
    (tmp_path / "plugin").rename(tmp_path / "elsewhere")
    remote.executor.start(f"{made.uid}-1")
    job = await remote.kernel.until("j", *ENDS)
    assert (job.state.value, job.error["reason"]) == ("failed", "STORE_NOT_SHARED")
    assert "docs/scaling.md" in job.error["message"]


async def test_a_daemon_that_does_not_listen_refuses_the_job_and_waits_out_what_ran(remote):
    made = await remote.submit(steps=400, step_s=0.05)
    await remote.runs(step=2)
    pid = remote.runner_pid(made.uid)
    await remote.stop()
    remote.kernel.prepare = lambda _kernel: None
    lost_after_s = type(remote.kernel.dispatcher.placing).lost_after_s
    try:
        type(remote.kernel.dispatcher.placing).lost_after_s = lambda *_: 8.0
        await remote.kernel.start()
        job = await remote.kernel.until("j", *ENDS, timeout_s=40)
    finally:
        type(remote.kernel.dispatcher.placing).lost_after_s = lost_after_s
    assert (job.state.value, job.error["reason"]) == ("failed", "EXECUTORS_OFF")
    assert not Path(f"/proc/{pid}").exists(), "its runner should have ended itself"


async def test_nothing_but_tls_goes_over_the_wire(remote):
    made = await remote.submit(steps=2)
    await remote.kernel.until("j", *ENDS)
    seen = bytes(remote.link.seen)
    token = order_of(remote.executor, f"{made.uid}-1")["token"]
    assert len(seen) > 2000
    assert not any(word in seen for word in (token.encode(), made.uid.encode(), b"PRIVATE KEY", b"jsonrpc", b"started"))


# Who may connect.


class Caller:
    """Calls the listener as an agent would, and not only so."""

    def __init__(self, order):
        self.order = order

    def ask(self, method, params, identity=None):
        """The answer, or the error's reason; `tls` when not even the handshake was liked, `closed` when it was cut."""
        try:
            stream = connect(self.order["address"], self.order["ca"], identity)
        except (ssl.SSLError, ConnectionError):
            return "tls"
        peer = Peer(stream, {})
        import threading

        threading.Thread(target=peer.run, daemon=True).start()
        try:
            return peer.request(method, params, 10.0)
        except HyperError as exc:
            return exc.reason
        finally:
            peer.close()

    async def __call__(self, *args, **kw):
        return await asyncio.to_thread(self.ask, *args, **kw)


@pytest.fixture
async def held(remote):
    """A job whose order is there and whose agent is not: its order, and who calls in its place."""
    remote.executor.hold = True
    made = await remote.submit(steps=1)
    async with asyncio.timeout(10):
        while not remote.executor.orders:
            await asyncio.sleep(0.01)
    order = order_of(remote.executor, f"{made.uid}-1")
    yield made, order, Caller(order)
    await remote.kernel.jobs.cancel("j", actor="test")


async def test_a_token_enrols_once(remote, held):
    made, order, call = held
    params = {"uid": made.uid, "attempt": 1, "token": order["token"]}
    assert await call("enrol", {**params, "token": "0" * 64}) == "ENROLMENT_REFUSED"
    assert await call("enrol", {**params, "attempt": 2}) == "ENROLMENT_REFUSED"
    first = await call("enrol", params)
    assert "PRIVATE KEY" in first["key"]
    assert await call("enrol", params) == "ENROLMENT_REFUSED"
    answer = await call("hello", {"started": False}, Identity(first["certificate"], first["key"]))
    assert answer["spec"]["job"] == "jobs/j"


async def test_without_a_certificate_nothing_is_told(held):
    _, _, call = held
    for method in ("hello", "records", "renew", "read_checkpoint", "log"):
        assert await call(method, {"started": False}) == "METHOD_UNKNOWN"


async def test_a_certificate_of_another_attempt_of_another_ca_or_of_yesterday_is_refused(remote, held, tmp_path):
    made, _, call = held
    mine = remote.remotes._authority
    now = remote.kernel.clock.now()

    def identity(authority, key, at=now, life=3600):
        made = authority.issue(key, at, life)
        return Identity(made.certificate, made.key)

    foreign = AttemptAuthority(tmp_path / "foreign", ensure_tls(tmp_path / "foreign", set(), now))
    assert await call("hello", {"started": False}, identity(foreign, (made.uid, 1))) in {"tls", "CONNECTION_CLOSED"}
    old = identity(mine, (made.uid, 1), now - 100_000)
    assert await call("hello", {"started": False}, old) in {"tls", "CONNECTION_CLOSED"}
    assert await call("hello", {}, identity(mine, (made.uid, 2))) == "ATTEMPT_NOT_READY"
    remote.remotes._settled_at = 0.0  # long ago
    assert await call("hello", {}, identity(mine, (made.uid, 2))) == "ATTEMPT_NOT_LIVE"
    assert await call("hello", {}, identity(mine, ("0" * 36, 1))) == "ATTEMPT_NOT_LIVE"
    assert (await call("hello", {}, identity(mine, (made.uid, 1))))["seq"] == 0


async def test_plaintext_and_garbage_are_cut_off(remote, held):
    host, port = remote.link.target
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x10" + b'{"method":"hello"}', os.urandom(4096)):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(garbage)
        async with asyncio.timeout(20):
            assert b"spec" not in await reader.read()
        writer.close()


async def test_a_stranger_cannot_send_long_frames(held):
    _, _, call = held
    assert await call("enrol", {"token": "x" * 200_000}) == "CONNECTION_CLOSED"


def test_only_a_well_formed_name_is_an_attempt():
    def named(text):
        return attempt_of({"subject": ((("commonName", text),),)})

    assert named("0" * 36 + "/3") == ("0" * 36, 3)
    bad = ("", "x/1", "0" * 36, "0" * 36 + "/0", "0" * 36 + "/-1", "../../etc/1", "0" * 36 + "/1\n", "hypersdkd")
    assert [named(text) for text in bad] == [None] * len(bad)
    assert attempt_of(None) is attempt_of({}) is None

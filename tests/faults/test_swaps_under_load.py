"""Swaps, bad versions and dying hosts under load, through the public API: what callers notice of them."""

import os
import signal
import time

import pytest
from hypersdk.api.jobs.v1 import jobs_pb2
from hypersdk.client import Client
from hypersdk.errors import HyperError
from support.swapping import ONCE_ONLY, PLUGIN, SLOW_CODE, UNWELL, under_load, waiting_wheel
from support.wheels import FORMAT_CODE, make_wheel

pytestmark = pytest.mark.faults

THREADS = 16
SWAPS = 15


@pytest.fixture
def address(daemon):
    return f"unix:{daemon.state / 'hypersdkd.sock'}"


@pytest.fixture
def client(address):
    with Client(address) as made:
        yield made


def install(client, folder, *versions, **kw):
    for version in versions:
        client.plugins.upload(make_wheel(folder, version, **kw))
    client.plugins.activate(PLUGIN, version=versions[0])


def test_swapping_between_three_versions_fails_no_call_and_answers_none_wrongly(client, address, tmp_path):
    install(client, tmp_path, "1.0", "2.0", "3.0", code=SLOW_CODE, manifest=ONCE_ONLY)
    with under_load(address, "1.0", THREADS) as load:
        for turn in range(SWAPS):
            load.swap(client, f"{(turn + 1) % 3 + 1}.0")
            time.sleep(0.05)
    assert load.failures == []
    assert load.wrong == []
    assert len(load.seconds) > 20 * SWAPS


def test_the_same_load_notices_a_host_that_is_killed_without_draining(client, address, tmp_path):
    install(client, tmp_path, "1.0", code=SLOW_CODE, manifest=ONCE_ONLY)
    with under_load(address, "1.0", THREADS) as load:
        time.sleep(0.3)
        os.kill(client.plugins.get(PLUGIN).active_generation.host.pid, signal.SIGKILL)
        time.sleep(0.3)
    assert load.failures
    assert "unknown" in load.failures[0]


def test_the_same_load_notices_an_answer_of_a_wrong_version(client, address, tmp_path):
    install(client, tmp_path, "1.0", "2.0", code=SLOW_CODE)
    with under_load(address, "1.0", 2) as load:
        client.plugins.activate(PLUGIN, version="2.0")  # behind the load's back
        time.sleep(0.2)
    assert set(load.wrong) == {"2.0"}


SOUND = ONCE_ONLY | {"components": {"format/swapped": {"concurrency": "parallel"}}}
REFUSED = {
    "fails its self-check": UNWELL,
    "does not import": {"code": "raise ImportError('no')"},
    "dies at its start": {"code": "import os; os._exit(1)"},
    "cannot be made": {"code": FORMAT_CODE + "    def __init__(self, needed): ...\n"},
    "other api": {"manifest": SOUND | {"api_version": "7.0"}},
    "lying manifest": {"manifest": SOUND | {"components": {"format/other": {}}}},
    "unmet dependency": {"requires": ("surely-not-there",)},
    "tampered wheel": {"record": {"hypersdk_format_swapped/__init__.py": "sha256=" + "A" * 43}},
}
TURNS_BAD = {
    "errors": "raise KeyError('defect')",
    "dies": "__import__('os')._exit(3)",
    "answers nonsense": "return 7",
    "hangs": "__import__('time').sleep(60)",
}


def test_versions_that_cannot_serve_are_refused_and_no_call_notices(client, address, tmp_path):
    install(client, tmp_path, "1.0")
    with under_load(address, "1.0", THREADS) as load:
        reasons = []
        for fault in REFUSED.values():
            with pytest.raises(HyperError) as refused:
                client.plugins.upload(make_wheel(tmp_path, "2.0", **fault))
            reasons.append(refused.value.reason)
    assert reasons[0] == "PLUGIN_SELF_CHECK_FAILED"
    assert (load.failures, load.wrong) == ([], [])
    assert client.plugins.get(PLUGIN).active_generation.version == "1.0"


def test_a_version_that_hangs_at_its_start_is_refused_and_no_call_notices(client, address, tmp_path):
    install(client, tmp_path, "1.0")
    with under_load(address, "1.0", 4) as load, pytest.raises(HyperError, match="not activated"):
        client.plugins.upload(make_wheel(tmp_path, "2.0", code="__import__('time').sleep(3600)"))
    assert (load.failures, load.wrong) == ([], [])
    assert client.plugins.get(PLUGIN).active_generation.version == "1.0"


@pytest.mark.parametrize("fault", TURNS_BAD)
def test_a_canary_that_is_bad_is_withdrawn_and_no_idempotent_call_fails(client, address, tmp_path, fault):
    install(client, tmp_path, "1.0")
    bad = FORMAT_CODE.replace('return {"version": "@version"}', TURNS_BAD[fault])
    client.plugins.upload(make_wheel(tmp_path, "2.0", code=bad), install_only=True)
    with under_load(address, "1.0", THREADS, timeout_s=5.0) as load:
        client.plugins.activate(PLUGIN, version="2.0", canary_percent=20)
        deadline = time.monotonic() + 20
        while not client.plugins.get(PLUGIN).generations[-1].failure_reason:
            assert time.monotonic() < deadline, "it was not withdrawn"
            time.sleep(0.05)
    assert (load.failures, load.wrong) == ([], [])
    assert client.plugins.get(PLUGIN).generations[-1].failure_reason == "PLUGIN_PROBATION_FAILED"


@pytest.mark.parametrize("fault", TURNS_BAD)
def test_a_version_that_turns_bad_is_taken_back_and_no_idempotent_call_fails(client, address, tmp_path, fault):
    install(client, tmp_path, "1.0")
    bad = FORMAT_CODE.replace('return {"version": "@version"}', TURNS_BAD[fault])
    with under_load(address, "1.0", THREADS, timeout_s=5.0) as load:
        client.plugins.upload(make_wheel(tmp_path, "2.0", code=bad))
        deadline = time.monotonic() + 20
        while client.plugins.get(PLUGIN).active_generation.version != "1.0":
            assert time.monotonic() < deadline, "it was not taken back"
            time.sleep(0.05)
    assert (load.failures, load.wrong) == ([], [])
    failed = client.plugins.get(PLUGIN).generations[-1]
    assert failed.failure_reason == "PLUGIN_PROBATION_FAILED"


def test_running_jobs_finish_on_the_version_that_they_began_with(client, tmp_path):
    versions = ["1.0", "2.0", "3.0"]
    for version in versions:
        client.plugins.upload(waiting_wheel(tmp_path, version))
    until = tmp_path / "go"
    jobs = {}
    for version in versions:
        client.plugins.activate("plugins/task-wait", version=version)
        job = client.jobs.create("wait", {"until": str(until)})
        while client.jobs.get(job.name).state != jobs_pb2.JOB_STATE_RUNNING:
            time.sleep(0.02)
        jobs[job.name] = version
    for turn in range(20):
        client.plugins.activate("plugins/task-wait", version=versions[turn % 3])
    client.plugins.collect_garbage()
    until.touch()
    for name, version in jobs.items():
        ended = client.jobs.wait(name, timeout_s=30)
        assert dict(ended.result) == {"version": version, "late": version}

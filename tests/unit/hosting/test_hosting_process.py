"""Children: what they inherit, how their end is noticed, and who may be adopted."""

import asyncio
import json
import os
import signal
import sys

import pytest
from hypersdk.errors import Unavailable
from hypersdk_kernel.hosting.process import (
    ENVIRONMENT,
    adopt,
    child_environment,
    current_boot_id,
    process_start_ticks,
    spawn,
)

SLEEP = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]


async def test_the_exit_status_is_told_to_every_waiter():
    child = spawn([sys.executable, "-I", "-c", "raise SystemExit(7)"])
    assert await asyncio.gather(child.wait(), child.wait()) == [7, 7]
    assert child.returncode == 7
    assert not child.running
    child.kill()  # nothing happens any more


async def test_a_killed_child_reports_the_signal():
    child = spawn(SLEEP)
    assert child.running
    child.kill(signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL


async def test_a_child_gets_limits_an_allow_listed_environment_and_no_descriptors(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("TZ", "UTC")
    program = """
import json, os, resource, sys, time
while resource.getrlimit(resource.RLIMIT_CORE) != (0, 0): time.sleep(0.01)
seen = {"env": sorted(os.environ), "stdin": os.readlink("/proc/self/fd/0"),
        "leader": os.getsid(0) == os.getpid(), "files": resource.getrlimit(resource.RLIMIT_NOFILE), "cwd": os.getcwd(),
        "fds": sorted(int(n) for n in os.listdir("/proc/self/fd"))}
print(json.dumps(seen))
"""
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    try:
        child = spawn(
            [sys.executable, "-I", "-c", program], stdout=out, new_session=True, cwd=tmp_path, extra_env={"HYPER": "1"}
        )
        assert await child.wait() == 0
        seen = json.loads(os.pread(out, 1 << 16, 0))
    finally:
        os.close(leaked)
        os.close(out)
    assert set(seen["env"]) <= ENVIRONMENT | {"HYPER", "LC_CTYPE"}  # the latter is CPython's own doing (PEP 538)
    assert {"HYPER", "TZ"} <= set(seen["env"])
    assert seen["stdin"] == "/dev/null"
    assert seen["leader"]
    assert max(seen["files"]) <= 4096
    assert seen["cwd"] == str(tmp_path)
    assert leaked not in seen["fds"]


async def test_a_program_that_does_not_exist_is_unavailable_and_named():
    with pytest.raises(Unavailable, match="no-such-program") as caught:
        spawn(["/no-such-program"])
    assert caught.value.reason == "PROCESS_START_FAILED"


def test_proxies_are_inherited_only_without_a_password():
    environ = {"HTTPS_PROXY": "http://u:secret@p:1", "HTTP_PROXY": "http://proxy:1", "HOME": "/root", "PATH": "/bin"}
    assert child_environment(environ) == {"HTTP_PROXY": "http://proxy:1", "PATH": "/bin"}


async def test_a_living_process_is_adopted_by_number_start_time_and_boot():
    child = spawn(SLEEP)
    ticks = process_start_ticks(child.pid)
    adopted = adopt(child.pid, ticks, current_boot_id())
    assert adopted is not None
    adopted.kill(signal.SIGKILL)
    assert await adopted.wait() is None
    assert await child.wait() == -signal.SIGKILL


async def test_another_process_with_the_same_number_is_not_adopted():
    child = spawn(SLEEP)
    ticks = process_start_ticks(child.pid)
    assert adopt(child.pid, ticks + 1, current_boot_id()) is None
    assert adopt(child.pid, ticks, "another-boot") is None
    child.kill()
    await child.wait()
    assert process_start_ticks(child.pid) is None
    assert adopt(child.pid, ticks, current_boot_id()) is None


async def test_a_process_name_full_of_brackets_does_not_confuse_the_start_time(tmp_path):
    trick = tmp_path / "a) R 1 (b"
    trick.symlink_to("/bin/sleep")
    child = spawn([trick, "60"])
    assert abs(process_start_ticks(child.pid) - process_start_ticks(os.getpid())) > 0
    child.kill()
    await child.wait()

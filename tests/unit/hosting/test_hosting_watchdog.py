"""Limits of a host, looked at from outside, with the time passed in."""

import os
import resource
import subprocess
import sys

import pytest
from hosting_fakes import eventually
from hypersdk.plugin.needs import Limits
from hypersdk_kernel.hosting.watchdog import (
    Bounds,
    Effective,
    Watchdog,
    cpu_seconds,
    descendants,
    end_descendants,
    limit,
    resident_bytes,
)

ROOMY = Effective(1 << 40, 4096, 64, 64.0)
NEST = """
import subprocess, sys, time
print("up", flush=True)
subprocess.Popen([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"])
time.sleep(60)
"""


@pytest.fixture
def child():
    """Starts Python programs, which are ended with what they started."""
    started = []

    def start(code):
        started.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        end_descendants(process.pid)
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_manifest_gets_what_it_asks_for_within_the_settings_and_else_the_settings():
    bounds = Bounds(1000 << 20, 1024, 8, 1.0)
    assert Effective.of(Limits(), bounds, confined=False) == Effective(1000 << 20, 1024, 8, 0.5)
    assert Effective.of(Limits(), bounds, confined=True).processes == 0
    asked = Limits(64 << 20, 300, 2, 0.1)
    assert Effective.of(asked, bounds, confined=True) == Effective(64 << 20, 300, 2, 0.1)
    greedy = Limits(1 << 40, 1 << 20, 4096, 64.0)
    assert Effective.of(greedy, bounds, confined=True) == Effective(1000 << 20, 1024, 8, 1.0)
    assert Effective.of(Limits(processes=0), bounds, confined=False).processes == 0


def test_memory_above_the_limit_is_seen_at_the_next_look():
    pid = os.getpid()
    assert Watchdog(pid, ROOMY, 10.0).look(0.0, idle=True) == ""
    tight = Effective(1 << 20, 4096, 64, 64.0)
    assert "its limit is 1" in Watchdog(pid, tight, 10.0).look(0.0, idle=True)


async def test_a_processor_kept_busy_without_a_call_is_seen_after_the_window_and_with_one_never(child):
    process = child("print('up', flush=True)\nwhile True: pass")
    process.stdout.readline()
    limits = Effective(1 << 40, 4096, 64, 0.5)
    idle, busy = Watchdog(process.pid, limits, 10.0), Watchdog(process.pid, limits, 10.0)
    assert idle.look(0.0, idle=True) == ""
    assert busy.look(0.0, idle=False) == ""
    before = cpu_seconds(process.pid)
    await eventually(lambda: cpu_seconds(process.pid) > before + 0.2, 20.0)
    used = cpu_seconds(process.pid) - before
    assert idle.look(used, idle=True) == "", "the window is not over"
    busy_until = 10.0 + used
    assert busy.look(busy_until, idle=False) == ""
    # As if the same work had filled a window of that length.
    short = Watchdog(process.pid, limits, used)
    assert short.look(0.0, idle=True) == ""
    start = cpu_seconds(process.pid)
    await eventually(lambda: cpu_seconds(process.pid) > start + used, 20.0)
    assert "without a call" in short.look(used, idle=True)


def test_a_process_that_has_gone_breaks_no_rule():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dog = Watchdog(process.pid, Effective(1, 1, 0, 0.01), 0.0)
    assert dog.look(0.0, idle=True) == ""
    assert dog.look(100.0, idle=True) == ""
    assert (resident_bytes(process.pid), cpu_seconds(process.pid), descendants(process.pid)) == (0, None, [])
    limit(process.pid, ROOMY)


async def test_what_a_process_has_started_is_counted_through_all_generations_and_ended(child):
    process = child(NEST)
    process.stdout.readline()
    await eventually(lambda: len(descendants(process.pid)) == 2, 20.0)
    strict = Effective(1 << 40, 4096, 1, 64.0)
    assert "had 2 programs" in Watchdog(process.pid, strict, 10.0).look(0.0, idle=True)
    below = descendants(process.pid)
    end_descendants(process.pid)
    await eventually(lambda: all(resident_bytes(pid) == 0 for pid in below), 20.0)


def test_descriptors_and_data_are_limited_from_outside(child):
    process = child("print('up', flush=True)\nimport time; time.sleep(60)")
    process.stdout.readline()
    limit(process.pid, Effective(64 << 20, 300, 0, 1.0))
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (300, 300)
    assert resource.prlimit(process.pid, resource.RLIMIT_DATA)[0] == (128 << 20) + (1 << 30)

"""Cases of hot swap, through the public API: calls lost and answered wrongly, and what a swap costs those in flight.

`swap-kill-control` is the control: the same load, the host killed instead of drained. It must fail calls.
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hypersdk.client import Client
from hypersdk.errors import HyperError

from tests.bench.kernel import kernel, smaps
from tests.bench.rows import Row, case, percentile, ratio
from tests.support import chaos
from tests.support.daemon import Daemon
from tests.support.swapping import ONCE_ONLY, PLUGIN, SLOW_CODE, UNWELL, under_load
from tests.support.wheels import FORMAT_CODE, make_wheel

THREADS = 32
SWAPS = 50
VERSIONS = ("1.0", "2.0", "3.0")


def address_of(daemon: Daemon) -> str:
    return f"unix:{daemon.state / 'hypersdkd.sock'}"


def install(client: Client, folder: Path, **kw: object) -> None:
    """Three versions, the first of which answers."""
    for version in VERSIONS:
        client.plugins.upload(make_wheel(folder, version, code=SLOW_CODE, **kw))
    client.plugins.activate(PLUGIN, version=VERSIONS[0])


@case("swap-load")
def swap_under_load() -> Iterator[Row]:
    """32 threads, 50 swaps between 3 versions, calls that the kernel may not repeat."""
    with kernel() as (daemon, client, folder):
        install(client, folder, manifest=ONCE_ONLY)
        with under_load(address_of(daemon), VERSIONS[0], THREADS) as calm:
            time.sleep(5.0)
        spent = []
        with under_load(address_of(daemon), VERSIONS[0], THREADS) as load:
            for turn in range(SWAPS):
                start = time.perf_counter()
                load.swap(client, VERSIONS[(turn + 1) % 3])
                spent.append(time.perf_counter() - start)
                time.sleep(0.1)
        yield Row("swap-load-failed", len(load.failures), "calls", must=0)
        yield Row("swap-load-wrong", len(load.wrong), "calls", must=0)
        yield Row("swap-load-calls", len(load.seconds), "calls", better="more")
        yield Row("swap-load-time", statistics.median(spent), "s")
        swapping, quiet = percentile(load.seconds, 0.99), percentile(calm.seconds, 0.99)
        yield ratio("swap-load-p99", swapping, quiet, "without swaps", must=2.0)


@case("swap-kill-control")
def swap_by_killing() -> Iterator[Row]:
    """The control: 5 times the host is killed with calls in flight."""
    with kernel() as (daemon, client, folder):
        install(client, folder, manifest=ONCE_ONLY)
        with under_load(address_of(daemon), VERSIONS[0], THREADS) as load:
            for _ in range(5):
                time.sleep(0.3)
                pid = client.plugins.get(PLUGIN).active_generation.host.pid
                if pid:
                    os.kill(pid, signal.SIGKILL)
        yield Row("swap-kill-control-failed", len(load.failures), "calls", must=1, better="more")


@case("swap-bad-versions")
def swap_to_bad_versions() -> Iterator[Row]:
    """Versions that do not start, and that turn bad after the flip: idempotent calls that fail of them."""
    refused = {
        "import": {"code": "raise ImportError('no')"},
        "start": {"code": "__import__('time').sleep(3600)"},
        "api": {"manifest": ONCE_ONLY | {"api_version": "7.0"}},
        "manifest": {"manifest": ONCE_ONLY | {"components": {"format/other": {}}}},
        "class": {"code": FORMAT_CODE + "    def __init__(self, needed): ...\n"},
        "check": UNWELL,
        "dependency": {"requires": ("surely-not-there",)},
        "tampered": {"record": {"hypersdk_format_swapped/__init__.py": "sha256=" + "A" * 43}},
    }
    turns = {"errors": "raise KeyError('x')", "crash": "__import__('os')._exit(3)",
             "hang": "__import__('time').sleep(60)"}  # fmt: skip
    with kernel() as (daemon, client, folder):
        client.plugins.upload(make_wheel(folder, "1.0"))
        for name, fault in refused.items():
            with under_load(address_of(daemon), "1.0", THREADS) as load:
                try:
                    client.plugins.upload(make_wheel(folder, "2.0", **fault))
                except HyperError:
                    time.sleep(0.2)
            yield Row(f"swap-bad-{name}", len(load.failures) + len(load.wrong), "calls", must=0)
        for name, harm in turns.items():
            code = FORMAT_CODE.replace('return {"version": "@version"}', harm)
            with under_load(address_of(daemon), "1.0", THREADS, timeout_s=6.0) as load:
                start = time.perf_counter()
                client.plugins.upload(make_wheel(folder, "2.0", code=code))
                while client.plugins.get(PLUGIN).active_generation.version != "1.0":
                    time.sleep(0.01)
                back = time.perf_counter() - start
            yield Row(f"swap-bad-{name}", len(load.failures) + len(load.wrong), "calls", must=0)
            yield Row(f"swap-bad-{name}-back", back, "s")


@case("swap-chaos")
def hosts_die_at_random() -> Iterator[Row]:
    """60 s of kill -9 and SIGSTOP of 12 hosts under 24 clients: what callers notice, and how soon it is over."""
    with kernel() as (daemon, client, folder):
        components = chaos.install(client, folder, 12)
        with chaos.under_chaos(address_of(daemon), components) as load:
            load.harm_for(client, seconds=60.0, pause_s=1.6, seed=20)
        recoveries = [seconds for seconds in load.recoveries() if seconds is not None]
        yield Row("swap-chaos-harmed", len(load.harms), "hosts", better="more")
        yield Row("swap-chaos-unrecovered", len(load.harms) - len(recoveries), "hosts", must=0)
        yield Row("swap-chaos-forbidden", len(load.forbidden), "calls", must=0)
        yield Row("swap-chaos-unknown", load.unknown, "calls")
        yield Row("swap-chaos-answered", len(load.answers), "calls", better="more")
        yield Row("swap-chaos-recovery-p50", statistics.median(recoveries), "s")
        yield Row("swap-chaos-recovery-max", max(recoveries), "s", must=1.0)


@case("swap-forty")
def start_with_forty_plugins() -> Iterator[Row]:
    """Start of a kernel that has 40 more plugins installed, and what it needs when idle."""
    with kernel() as (daemon, client, folder):
        for number in range(40):
            wheel = make_wheel(folder, distribution=f"hypersdk-format-extra{number}", component=f"extra{number}")
            client.plugins.install(str(wheel), install_only=number % 2 == 0)
        times = []
        for _ in range(5):
            daemon.stop()
            start = time.perf_counter()
            daemon.start()
            times.append(time.perf_counter() - start)
        installed = len(list(client.plugins.list()))
        assert daemon.process is not None
        yield Row("swap-forty-plugins", installed, "plugins", must=40, better="more")
        yield Row("swap-forty-start", statistics.median(times), "s", must=1.0)
        time.sleep(2.0)
        resident, private = smaps(daemon.process.pid)
        yield Row("swap-forty-memory", private, "MiB private", resident, None, None)


@case("swap-drop")
def from_drop_to_serving() -> Iterator[Row]:
    """From the rename into plugins.d to the first answer of the new version."""
    with kernel() as (daemon, client, _), tempfile.TemporaryDirectory() as name:
        times = []
        for turn in range(5):
            wheel = make_wheel(Path(name), f"{turn + 1}.0")
            part = daemon.state / "plugins.d" / "part"
            part.write_bytes(wheel.read_bytes())
            start = time.perf_counter()
            part.rename(part.with_name(wheel.name))
            while _answering(client) != f"{turn + 1}.0":
                time.sleep(0.002)
            times.append(time.perf_counter() - start)
        yield Row("swap-drop-to-serving", statistics.median(times), "s", must=0.5)


def _answering(client: Client) -> str:
    try:
        return client.formats.get("formats/swapped").create_options["version"]
    except HyperError:
        return ""

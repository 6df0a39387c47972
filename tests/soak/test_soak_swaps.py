"""2,000 swaps under load: the kernel has as many descriptors and threads afterwards as before, and no more memory.

SOAK_SWAPS says how many (default 2,000), SOAK_SWAP_MINUTES when to stop in any case (default 40): what was reached by
then is judged. The first tenth warms up: pools of threads, caches, the allocator.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypersdk.client import Client
from support.daemon import Daemon
from support.swapping import ONCE_ONLY, SLOW_CODE, install_versions, under_load
from support.wheels import make_wheel

SWAPS = int(os.environ.get("SOAK_SWAPS", "2000"))
MINUTES = float(os.environ.get("SOAK_SWAP_MINUTES", "40"))
SAMPLES = 20
VERSIONS = ("1.0", "2.0", "3.0")
MAX_GROWTH_BYTES = 3 << 10
"""A swap, at most. It leaves two events and rows of the audit trail on disk, and nothing in memory."""


@dataclass(frozen=True)
class Sample:
    swaps: int
    descriptors: int
    threads: int
    private_bytes: int


def sample(pid: int, swaps: int) -> Sample:
    proc = Path(f"/proc/{pid}")
    rollup = (proc / "smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Private_"))
    return Sample(swaps, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())), private)


def growth(warm: list[Sample]) -> float:
    """Bytes a swap, between the medians of the first and the last third: a sample may fall on a moment in which the
    allocator has not given back yet what a burst of calls took."""
    third = len(warm) // 3
    first, last = warm[: third or 1], warm[-(third or 1) :]
    gained = statistics.median(s.private_bytes for s in last) - statistics.median(s.private_bytes for s in first)
    return gained / (statistics.median(s.swaps for s in last) - statistics.median(s.swaps for s in first))


def fill_pools(client: Client, folder: Path) -> None:
    """The daemon's pool for what blocks starts a thread when all that it has are busy, up to its size. After this it
    has them all, so that any further one is a leak."""
    wheel = make_wheel(folder, "1.0", code=SLOW_CODE, manifest=ONCE_ONLY)
    with ThreadPoolExecutor(16) as callers:
        list(callers.map(lambda _: client.plugins.upload(wheel, validate_only=True), range(32)))


def settle(client: Client, daemon: Daemon) -> None:
    """Until only the active generation's host is left."""
    deadline = time.monotonic() + 60
    while sum(bool(g.host.pid) for p in client.plugins.list() for g in p.generations) > 1:
        assert time.monotonic() < deadline, f"hosts are not stopped:\n{daemon.log[-3000:]}"
        time.sleep(0.1)
    time.sleep(0.5)


@pytest.mark.soak
def test_thousands_of_swaps_leave_no_descriptor_no_thread_and_no_memory_behind(tmp_path):
    folder = tmp_path / "daemon"
    folder.mkdir()
    daemon = Daemon(folder, "--probation-s", "0.5", "--log-level", "warning").start()
    address = f"unix:{daemon.state / 'hypersdkd.sock'}"
    samples: list[Sample] = []
    try:
        assert daemon.process is not None
        with Client(address) as client:
            install_versions(client, tmp_path, VERSIONS, code=SLOW_CODE, manifest=ONCE_ONLY)
            fill_pools(client, tmp_path)
            end = time.monotonic() + MINUTES * 60
            swaps, step = 0, max(1, SWAPS // SAMPLES)
            with under_load(address, VERSIONS[0], 4) as load:
                while swaps < SWAPS and time.monotonic() < end:
                    for _ in range(step):
                        swaps += 1
                        load.swap(client, VERSIONS[swaps % 3])
                    settle(client, daemon)
                    samples.append(sample(daemon.process.pid, swaps))
                    print(samples[-1], flush=True)
    finally:
        daemon.close()
    assert (load.failures, load.wrong) == ([], [])
    warm = [s for s in samples if s.swaps > samples[-1].swaps / 10]
    assert len(warm) >= 4, "too few samples to judge by; give it more swaps or minutes"
    assert warm[-1].descriptors <= warm[0].descriptors, samples
    assert warm[-1].threads <= warm[0].threads, samples
    slope = growth(warm)
    print(f"{samples[-1].swaps} swaps, {len(load.seconds)} calls: {slope:.0f} bytes of memory a swap")
    assert slope <= MAX_GROWTH_BYTES, samples

"""Cases of the kernel: calls, durable submissions, start-up, memory. The peer is an empty grpc.aio servicer."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypersdk.client import Client

from tests.bench.rows import Row, case, ratio
from tests.support import postgres
from tests.support.daemon import Daemon

MIB = 1 << 20
_ROUNDS = 3
_SECONDS = 3.0


@contextmanager
def kernel(*flags: str) -> Iterator[tuple[Daemon, Client, Path]]:
    """A daemon at log level warning, its client, and a folder for files."""
    with tempfile.TemporaryDirectory(prefix="hypersdk-bench-") as name:
        folder = Path(name)
        daemon = Daemon(folder, "--log-level", "warning", *flags)
        try:
            daemon.start()
            with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as client:
                yield daemon, client, folder
        finally:
            daemon.close()


@contextmanager
def empty_server() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        path = f"{name}/s"
        process = subprocess.Popen([sys.executable, "-m", "tests.bench.empty_server", path], stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"unix:{path}"
        finally:
            process.kill()
            process.wait()


def load(address: str, method: str, callers: int, name: str = "jobs/x") -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.load", address, method, str(callers), str(_SECONDS), name]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def busy(client: Client, folder: Path) -> str:
    """Fill the only runner's place with a job that lasts, so that submitted ones stay queued. Its name."""
    source = folder / "slow.raw"
    source.write_bytes(os.urandom(MIB) * 256)
    spec = {"source_path": str(source), "target_path": str(folder / "slow.qcow2"), "format": "qcow2"}
    return client.jobs.create("convert", spec, bandwidth_limit_bytes=MIB).name


def compared(name: str, method: str, callers: int, must: float | None, *flags: str) -> Iterator[Row]:
    with kernel("--max-runners", "1", *flags) as (daemon, client, folder), empty_server() as peer:
        job = busy(client, folder)
        address = f"unix:{daemon.state / 'hypersdkd.sock'}"
        ours, theirs = [], []
        for _ in range(_ROUNDS):
            ours.append(load(address, method, callers, job))
            theirs.append(load(peer, method, callers, job))
    rate = statistics.median(o["rate"] for o in ours)
    peer_rate = statistics.median(t["rate"] for t in theirs)
    yield ratio(name, rate, peer_rate, "calls/s of an empty grpc.aio servicer", must, better="more")
    p99 = statistics.median(o["p99"] for o in ours) * 1000
    yield Row(f"{name}-p99", p99, "ms", p99, statistics.median(t["p99"] for t in theirs) * 1000, "empty servicer")


@case("kernel-unary-1")
def unary_1() -> Iterator[Row]:
    yield from compared("kernel-unary-1", "get", 1, 0.6)


@case("kernel-unary-16")
def unary_16() -> Iterator[Row]:
    yield from compared("kernel-unary-16", "get", 16, 0.6)


@case("kernel-unary-64")
def unary_64() -> Iterator[Row]:
    yield from compared("kernel-unary-64", "get", 64, 0.6)


@case("kernel-submit-16")
def submit_16() -> Iterator[Row]:
    """Durable on SQLite: WAL, synchronous=FULL, group commit."""
    yield from compared("kernel-submit-16", "create", 16, 0.5)


@case("kernel-submit-16-postgresql")
def submit_16_postgresql() -> Iterator[Row]:
    """Durable on PostgreSQL with fsync."""
    why = postgres.missing()
    assert not why, why
    with postgres.running() as server:
        where = ("--database", server.url(server.migrated()), "--database-password-file", str(server.password_file))
        yield from compared("kernel-submit-16-postgresql", "create", 16, 0.5, *where)


@case("kernel-first-byte")
def first_byte() -> Iterator[Row]:
    """From CreateJob until the runner has moved its first bytes, and until a small conversion has ended."""
    with kernel() as (_, client, folder):
        source = folder / "small.raw"
        source.write_bytes(os.urandom(MIB))
        firsts, ends = [], []
        for index in range(7):
            spec = {"source_path": str(source), "target_path": str(folder / f"{index}.qcow2"), "format": "qcow2"}
            start = time.perf_counter()
            name = client.jobs.create("convert", spec).name
            first = None
            for change in client.jobs.watch([name]):
                if first is None and change.job.progress.bytes_read:
                    first = time.perf_counter() - start
                if change.job.HasField("end_time"):
                    break
            ends.append(time.perf_counter() - start)
            firsts.append(first or ends[-1])
    yield Row("kernel-first-byte", statistics.median(firsts) * 1000, "ms", statistics.median(firsts) * 1000)
    yield Row("kernel-first-byte-to-end", statistics.median(ends) * 1000, "ms", statistics.median(ends) * 1000)


@case("kernel-host-start")
def host_start() -> Iterator[Row]:
    """First call of a plugin, host started for it, less a call of the running host."""
    first, later = [], []
    for _ in range(5):
        with kernel() as (_, client, _folder):
            client.system.info()
            start = time.perf_counter()
            client.formats.get("formats/raw")
            first.append(time.perf_counter() - start)
            start = time.perf_counter()
            client.formats.get("formats/raw")
            later.append(time.perf_counter() - start)
    spent = (statistics.median(first) - statistics.median(later)) * 1000
    yield Row("kernel-host-start", spent, "ms", spent)
    yield Row("kernel-host-call", statistics.median(later) * 1000, "ms", statistics.median(later) * 1000)


@case("kernel-start")
def start() -> Iterator[Row]:
    """From exec to a daemon that answers, on a state directory that exists."""
    spent = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(6):
            daemon = Daemon(Path(name), "--log-level", "warning")
            begin = time.perf_counter()
            daemon.start()
            with Client(f"unix:{daemon.state / 'hypersdkd.sock'}") as client:
                client.system.info()
            spent.append(time.perf_counter() - begin)
            daemon.stop()
    yield Row("kernel-start", statistics.median(spent[1:]) * 1000, "ms", statistics.median(spent[1:]) * 1000)


@case("kernel-memory")
def memory() -> Iterator[Row]:
    """Resident and private memory of the kernel and of an idle host."""
    with kernel() as (daemon, client, _):
        client.formats.get("formats/raw")
        plugin = client.plugins.get("plugins/format-raw")
        host = plugin.active_generation.host.pid
        assert daemon.process is not None
        for label, pid in (("kernel", daemon.process.pid), ("host", host)):
            resident, private = smaps(pid)
            yield Row(f"kernel-memory-{label}", private, "MiB private", resident, None, None)


def smaps(pid: int) -> tuple[float, float]:
    """Resident and private memory of a process, MiB."""
    values = {"Rss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key = line.partition(":")[0]
        if key in values:
            values[key] = int(line.split()[1])
    return values["Rss"] / 1024, (values["Private_Clean"] + values["Private_Dirty"]) / 1024

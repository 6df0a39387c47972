"""A Ray cluster on this machine: a head and two workers with a label and a resource each, in a network of its own.

Ray does not keep to a loopback address where it sees another one, and must not be seen from outside. So it gets a
network namespace with nothing but loopback, which the test's own thread enters, too, for as long as it lasts.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("HYPERSDK_TEST_RAY_PYTHON") or ROOT / "build" / "ray" / "bin" / "python")
PORT = 6379
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41


@contextlib.contextmanager
def own_network():
    """Skips where it cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace of our own: {os.strerror(ctypes.get_errno())} (needs root)")
        try:
            with socket.socket() as sock:
                fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING))
            yield
        finally:
            assert libc.setns(before, _CLONE_NEWNET) == 0
    finally:
        os.close(before)


class Cluster:
    """`head` has no CPUs for jobs; the workers are `hq` and `branch`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.temp = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # sockets' paths must be short
        self.processes: dict[str, subprocess.Popen] = {}

    @property
    def address(self):
        return f"127.0.0.1:{PORT}"

    def start(self):
        self._node(
            "head", ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false",
                     f"--temp-dir={self.temp}"], 20000,
        )  # fmt: skip
        for number, name in enumerate(("hq", "branch")):
            self.add(name, 21000 + 1000 * number)
        self._until_joined(3)
        return self

    def add(self, name, port):
        resources = f'--resources={{"at-{name}": 2}}'
        self._node(name, [f"--address={self.address}", "--num-cpus=2", f"--labels=site={name}", resources,
                          "--dashboard-agent-listen-port=0"], port)  # fmt: skip

    def _node(self, name, arguments, port):
        ports = [f"--min-worker-port={port}", f"--max-worker-port={port + 900}"]
        log = self.folder / f"ray-{name}.log"
        with open(log, "w") as out:
            self.processes[name] = subprocess.Popen(
                [str(PYTHON.with_name("ray")), "start", *arguments, *ports, "--node-ip-address=127.0.0.1",
                 "--object-store-memory=80000000", "--block"],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=self.environment(),
            )  # fmt: skip
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in log.read_text():
            assert self.processes[name].poll() is None, log.read_text()[-800:]
            assert time.monotonic() < deadline, log.read_text()[-800:]
            time.sleep(0.1)

    def environment(self):
        kept = {"PATH": f"{PYTHON.parent}:{os.environ['PATH']}", "HOME": str(self.folder), "LANG": "C.UTF-8"}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
        return {**kept, **quiet, "RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}

    def _until_joined(self, count):
        """Nodes answer `ray start` before the head has heard of them all."""
        code = (
            "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); "
            "print(sum(n['Alive'] for n in ray.nodes()))"
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            done = subprocess.run(
                [str(PYTHON), "-c", code, self.address], capture_output=True, text=True, env=self.environment(),
                check=False, timeout=60,
            )  # fmt: skip
            if done.stdout.strip() == str(count):
                return
        raise AssertionError(done.stdout + done.stderr[-500:])

    def kill(self, name):
        """As a machine that loses its power: everything that runs there, at once."""
        for pid in [self.processes[name].pid, *(pid for pid, _ in self._below(name))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def workers(self, name):
        """Pids of the processes in which actors run on that node."""
        return [pid for pid, command in self._below(name) if command.startswith(b"ray::Placed")]

    def agents(self, name):
        return [pid for pid, command in self._below(name) if b"hypersdk.runner.remote" in command]

    def shared_memory(self):
        """Where the object stores keep their objects, as files."""
        for name in self.processes:
            for pid in [self.processes[name].pid, *(pid for pid, _ in self._below(name))]:
                with contextlib.suppress(OSError):
                    for fd in Path(f"/proc/{pid}/fd").iterdir():
                        if os.readlink(fd).startswith("/dev/shm/"):
                            yield fd

    def _below(self, name):
        found, todo = [], [self.processes[name].pid]
        while todo:
            pid = todo.pop()
            try:
                threads = list(Path(f"/proc/{pid}/task").iterdir())
                todo += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
                found.append((pid, Path(f"/proc/{pid}/cmdline").read_bytes()))
            except OSError:
                continue
        return found

    def stop(self):
        """There is nothing in it that an orderly end could save, and that takes 10 s."""
        for name, process in self.processes.items():
            self.kill(name)
            process.wait()
        shutil.rmtree(self.temp, ignore_errors=True)


@contextlib.contextmanager
def ray_cluster(folder: Path):
    if not PYTHON.exists():
        pytest.skip(f"no Ray: {PYTHON} is missing; `make build/ray` installs it there")
    with own_network():
        cluster = Cluster(folder)
        try:
            yield cluster.start()
        finally:
            cluster.stop()

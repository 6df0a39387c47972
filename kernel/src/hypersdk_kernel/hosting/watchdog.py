"""A host's limits: memory, descriptors, programs, and a processor that it keeps busy for nobody.

Descriptors, and data far beyond the limit of memory, are limited by the operating system (prlimit(2), set from
outside).
Resident memory, programs and the processor are looked at once a second: of these the operating system has no limit
that is a process's own and that a plugin could live with (RLIMIT_AS counts what is only reserved, RLIMIT_NPROC counts
what all processes of the user have).

Not here: ending the process and starting the next (host_process, host).
"""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

from hypersdk.plugin.needs import Limits

from hypersdk_kernel.model.plugin import Confinement, ConfinementState

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_DATA_HEADROOM = 1 << 30
"""Stacks of threads and arenas of the allocator are data that nobody has touched; a leak of a second fits in here."""
_ROUNDS = 20
_MOST_PROCESSES = 4096


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no manifest can exceed, and what hosts get whose manifests say nothing. `idle_window_s`: how long a
    processor may be kept busy without a call in flight before it is held against the host."""

    memory_bytes: int = 2 << 30
    open_files: int = 4096
    processes: int = 64
    cpu_share: float = 1.0
    idle_window_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Effective:
    """One host's limits."""

    memory_bytes: int
    open_files: int
    processes: int
    cpu_share: float

    @classmethod
    def of(cls, wished: Limits, bounds: Bounds, *, confined: bool) -> Effective:
        """`confined`: the manifest's word is taken for all it needs; then programs are started only if it asks."""
        processes = wished.processes if wished.processes is not None else 0 if confined else bounds.processes
        return cls(
            min(wished.memory_bytes or bounds.memory_bytes, bounds.memory_bytes),
            min(wished.open_files or bounds.open_files, bounds.open_files),
            min(processes, bounds.processes),
            min(wished.cpu_share or min(0.5, bounds.cpu_share), bounds.cpu_share),
        )

    def shown(self) -> tuple[Confinement, ...]:
        """For people."""
        on = ConfinementState.ENFORCED
        counted = on if _counts_children() else ConfinementState.UNAVAILABLE
        return (
            Confinement("limit_memory", on, f"{self.memory_bytes >> 20} MiB resident"),
            Confinement("limit_open_files", on, str(self.open_files)),
            Confinement("limit_processes", counted, str(self.processes)),
            Confinement("limit_cpu", on, f"{self.cpu_share:g} of a core without a call"),
        )


def limit(pid: int, limits: Effective) -> None:
    """Tell the operating system. No-op when the process has gone."""
    try:
        for kind, wanted in ((resource.RLIMIT_NOFILE, limits.open_files),
                             (resource.RLIMIT_DATA, 2 * limits.memory_bytes + _DATA_HEADROOM)):  # fmt: skip
            hard = resource.prlimit(pid, kind)[1]
            value = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
            resource.prlimit(pid, kind, (value, value))
    except ProcessLookupError:
        return


class Watchdog:
    """Of one process. Its life: `look` from time to time, until it says what is wrong."""

    def __init__(self, pid: int, limits: Effective, window_s: float) -> None:
        self._pid = pid
        self._limits = limits
        self._window_s = window_s
        self._since: tuple[float, float] | None = None

    def look(self, now: float, *, idle: bool) -> str:
        """Why the process is to be ended; empty while it behaves. `now`: monotonic seconds; `idle`: no call is in
        flight, nor has been since the last look."""
        resident = resident_bytes(self._pid)
        if resident > self._limits.memory_bytes:
            return f"used {resident >> 20} MiB of memory; its limit is {self._limits.memory_bytes >> 20}"
        running = len(descendants(self._pid))
        if running > self._limits.processes:
            return f"had {running} programs running; its limit is {self._limits.processes}"
        return self._spinning(now, idle)

    def _spinning(self, now: float, idle: bool) -> str:
        used = cpu_seconds(self._pid)
        if not idle or used is None or self._since is None:
            self._since = (now, used) if idle and used is not None else None
            return ""
        began, before = self._since
        if now - began < self._window_s:
            return ""
        share = (used - before) / (now - began)
        self._since = (now, used)
        if share <= self._limits.cpu_share:
            return ""
        most = f"{self._limits.cpu_share:g}"
        return f"used {share:.2f} of a core for {now - began:.0f} s without a call; its limit is {most}"


def resident_bytes(pid: int) -> int:
    """0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def cpu_seconds(pid: int) -> float | None:
    """User and system time of a process (proc(5), stat, fields 14 and 15); None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return None


def descendants(pid: int) -> list[int]:
    """The processes below one, parents first, at most 4,096; none where the kernel does not tell."""
    out: list[int] = []
    look_at = [pid]
    while look_at and len(out) < _MOST_PROCESSES:
        parent = look_at.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            try:
                children = Path(f"/proc/{parent}/task/{task}/children").read_bytes().split()
            except OSError:
                continue
            found = [int(child) for child in children]
            out += found
            look_at += found
    return out


def end_descendants(pid: int) -> None:
    """Kill what a process has started, before it is killed itself and they are nobody's: it is stopped first, so that
    it starts no more, then all below it are killed, again and again while there are new ones."""
    below = descendants(pid)
    if not below:
        return
    _signal(pid, signal.SIGSTOP)
    for _ in range(_ROUNDS):
        for child in below:
            _signal(child, signal.SIGKILL)
        below = [child for child in descendants(pid) if cpu_seconds(child) is not None and not _dead(child)]
        if not below:
            return


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except (OSError, IndexError):
        return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _counts_children() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()

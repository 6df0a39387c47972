"""Hosts that were stopped by a signal (SIGSTOP, SIGTSTP): noticed when it happens, not by the next heartbeat.

The kernel is their parent, so it gets SIGCHLD then, and waitid(2) says which one it was, without reaping anything. A
host that does not go on within a moment is ended, and what it had is repeated or refused as after any crash. One that
a debugger holds (ptrace) is not reported as stopped, and has the heartbeat's time.

Not here: a host that runs and does not answer (host_process, its heartbeat).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from hypersdk_kernel.hosting.host_process import HostProcess

GRACE_S = 0.25
"""Whoever stops a host and means it to go on (a snapshot of a container, say) is quicker."""


class StoppedHosts:
    """Ends hosts that stay stopped. Its life: `look` at every SIGCHLD."""

    def __init__(self, processes: Callable[[], Iterable[HostProcess]], grace_s: float = GRACE_S) -> None:
        self._processes = processes
        self._grace_s = grace_s

    def look(self) -> None:
        """A child has stopped, gone on, or ended."""
        for process in self._processes():
            if process.stopped:
                asyncio.get_running_loop().call_later(self._grace_s, self._judge, process)

    def _judge(self, process: HostProcess) -> None:
        if process.stopped:
            process.kill(f"was stopped by a signal for {self._grace_s:g} s")

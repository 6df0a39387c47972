"""Child processes: started without forking, known by pidfd, adopted after a restart of the kernel.

The kernel runs grpc.aio in many threads, and forking such a process crashed 17 children of 100.
`subprocess.Popen` without `preexec_fn`, `user` or `group` goes through vfork + exec, which is safe.
Everything that would need code between fork and exec is done from outside (limits by prlimit(2)) or by the
child itself (no_new_privs, non-dumpable).

Not here: what is said to the child (peer), when it is started again (host).
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hypersdk.errors import Unavailable

ENVIRONMENT = frozenset(
    {"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
     "REQUESTS_CA_BUNDLE", "NO_PROXY", "no_proxy"}
)  # fmt: skip
"""What a child inherits. No HOME: a cloud SDK would find the operator's own credentials below it."""

PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"})
"""Inherited as long as the address carries no password."""

OPEN_FILES = 4096
"""RLIMIT_NOFILE of a child: 16 threads of a provider with some sockets each, and images with many extents
files."""


class Child:
    """A process we started or adopted. Its life: running; then `wait` returns, and `kill` does nothing any
    more.

    returncode   None while it runs, and for ever for an adopted process (its exit status went to its parent);
                 negative: the signal that ended it
    """

    def __init__(self, pid: int, pidfd: int, popen: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._popen = popen
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(pidfd, self._on_exit)

    @property
    def running(self) -> bool:
        """As far as the loop has noticed."""
        return not self._exited.done()

    async def wait(self) -> int | None:
        """Its exit status once it has gone; None for an adopted process. Any number of waiters."""
        await asyncio.shield(self._exited)
        return self.returncode

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """Send a signal to exactly this process, never to another that got its number. No-op when it has
        gone."""
        if self._exited.done():
            return
        try:
            signal.pidfd_send_signal(self._pidfd, sig)
        except ProcessLookupError:
            return  # gone, and the loop has not told us yet

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._popen is not None:
            self.returncode = self._popen.wait()
        self._exited.set_result(None)


def spawn(
    argv: Sequence[str | Path],
    *,
    pass_fds: Sequence[int] = (),
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    cwd: str | Path = "/",
    new_session: bool = False,
    extra_env: Mapping[str, str] | None = None,
) -> Child:
    """Start a program: allow-listed environment, null stdin, no descriptor but `pass_fds`, limits on cores
    and open files.

    stdout, stderr  descriptors that the caller goes on to own
    new_session     it survives us and our terminal's signals

    Takes the loop 1–2 ms (until exec). Raises Unavailable (PROCESS_START_FAILED).
    """
    try:
        popen = subprocess.Popen(
            [os.fspath(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            close_fds=True,
            pass_fds=tuple(pass_fds),
            cwd=cwd,
            env=child_environment(os.environ) | dict(extra_env or {}),
            start_new_session=new_session,
        )
    except OSError as exc:
        raise _start_failed(argv[0], exc) from exc
    try:
        pidfd = os.pidfd_open(popen.pid)  # not reaped yet, so the number is still its own
    except OSError as exc:
        popen.kill()
        popen.wait()
        raise _start_failed(argv[0], exc) from exc
    _limit(popen.pid)
    return Child(popen.pid, pidfd, popen)


def adopt(pid: int, start_ticks: int, boot_id: str) -> Child | None:
    """The process that an earlier kernel started, or None when it has gone. Its number alone proves nothing
    after a reboot or a wrap-around; number, start time (field 22 of /proc/pid/stat) and boot together do."""
    if boot_id != current_boot_id():
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if process_start_ticks(pid) != start_ticks:  # looked up after the pidfd holds on to the process
        os.close(pidfd)
        return None
    return Child(pid, pidfd, None)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of `environ` that children may see."""
    out = {k: environ[k] for k in ENVIRONMENT & environ.keys()}
    for key in PROXIES & environ.keys():
        if not urlsplit(environ[key]).password:
            out[key] = environ[key]
    return out


def current_boot_id() -> str:
    """Changes at each boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def process_start_ticks(pid: int) -> int | None:
    """When a process started, clock ticks since boot (proc(5), stat, field 22); None when it has gone or is a
    zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # the command in brackets may hold anything, also ")"
    return None if fields[0] in {b"Z", b"X"} else int(fields[19])


def _start_failed(program: str | Path, exc: OSError) -> Unavailable:
    return Unavailable(
        f"cannot start {os.fspath(program)!r}: {exc.strerror}; look at the machine's memory and limits",
        reason="PROCESS_START_FAILED",
    )


def _limit(pid: int) -> None:
    try:
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))  # a core would hold secrets
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        files = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (files, files))
    except ProcessLookupError:
        return  # it has ended already; whoever waits for it learns that

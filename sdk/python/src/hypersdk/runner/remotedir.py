"""What an agent has on its machine: the run directory of one attempt, laid out as the kernel's, and the runner in it.

Not here: the connection to the kernel (remote), and what is read out of the directory for it (remotefeed).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hypersdk.errors import FailedPrecondition
from hypersdk.runner.checkpoint import FILE_NAME as CHECKPOINT
from hypersdk.runner.journal import FILE_NAME as JOURNAL
from hypersdk.runner.remoteorder import AgentOrder

LEFT_OVER_S = 7 * 86400.0


class RemoteDir:
    """`<work_dir>/<uid>`. Its life: `prepare`, `start`, and `remove` when the kernel has everything."""

    def __init__(self, order: AgentOrder) -> None:
        self._order = order
        self.job = order.work_dir / order.uid
        self.attempt = self.job / "attempts" / str(order.attempt)
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Raises FailedPrecondition (WORK_DIR_UNSAFE), Aborted by OSError."""
        work_dir = self._order.work_dir
        work_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(work_dir)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            text = f"{work_dir} must be a folder of this user alone (mode 0700): secrets' holders work in it"
            raise FailedPrecondition(text, reason="WORK_DIR_UNSAFE")
        self._sweep()
        for folder in (self.job, self.job / "scratch", self.job / "attempts", self.attempt):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _sweep(self) -> None:
        """Drop what agents left that were killed: old, and no runner in it."""
        for folder in self._order.work_dir.iterdir():
            with contextlib.suppress(OSError):  # another agent sweeps, too
                if folder == self.job or time.time() - folder.stat().st_mtime < LEFT_OVER_S:
                    continue
                fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(fd)

    def take_over(self, checkpoint: bytes | None, held: Sequence[Mapping[str, Any]]) -> None:
        """Lay down what earlier attempts, on whatever machine, left: the checkpoint, and what they still hold."""
        path = self.job / CHECKPOINT
        if checkpoint is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(checkpoint)
        for former in (self.job / "attempts").iterdir():
            if former != self.attempt:
                shutil.rmtree(former, ignore_errors=True)
        if held and self._order.attempt > 1:
            folder = self.job / "attempts" / str(self._order.attempt - 1)
            folder.mkdir(mode=0o700)
            records = ({"seq": n, "type": "acquired", **record} for n, record in enumerate(held, 1))
            lines = (json.dumps(record, separators=(",", ":")) for record in records)
            (folder / JOURNAL).write_text("".join(f"{line}\n" for line in lines))

    def start(self, spec: Mapping[str, Any], lock_wait_s: float) -> None:
        """Start the runner. Raises FailedPrecondition (RUNNER_STILL_THERE) when an earlier attempt's runner goes on on
        this machine after `lock_wait_s`."""
        lock_fd = self._lock(lock_wait_s)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        spec_fd = os.memfd_create("hypersdk-spec", os.MFD_CLOEXEC)
        output_fd = os.open(self.attempt / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._at_socket(lambda path: _bind(listener, path))
            listener.listen(8)
            own = {
                "job_dir": str(self.job), "attempt_dir": str(self.attempt), "listen_fd": listener.fileno(),
                "lock_fd": lock_fd, "orphan_s": self._order.orphan_s,
                "parent_pid": os.getpid(),
            }  # fmt: skip
            with open(spec_fd, "wb", closefd=False) as file:
                file.write(json.dumps({**spec, **own}).encode())
            os.lseek(spec_fd, 0, os.SEEK_SET)
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-B", "-m", "hypersdk.runner", "--spec-fd", str(spec_fd)],
                pass_fds=(spec_fd, listener.fileno(), lock_fd),
                stdin=subprocess.DEVNULL, stdout=output_fd, stderr=output_fd, cwd=self.job, start_new_session=True,
            )  # fmt: skip
        finally:
            listener.close()
            for fd in (spec_fd, output_fd, lock_fd):
                os.close(fd)

    def connect(self) -> socket.socket:
        """To the runner. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._at_socket(sock.connect)
        except BaseException:
            sock.close()
            raise
        return sock

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    def remove(self) -> None:
        """What is here is the kernel's by now, or of no use to anybody."""
        shutil.rmtree(self.job, ignore_errors=True)

    def _lock(self, wait_s: float) -> int:
        fd = os.open(self.job / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(fd)
                    raise FailedPrecondition(
                        f"an earlier runner of this job has not let go of {self.job} in {wait_s:g} s",
                        reason="RUNNER_STILL_THERE",
                    ) from None
                time.sleep(0.1)

    def _at_socket(self, use: Any) -> None:
        """A name of the socket that fits into sun_path (108 bytes) however deep the folder lies."""
        fd = os.open(self.attempt, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            use(f"/proc/self/fd/{fd}/s")
        finally:
            os.close(fd)


def check_components(components: Mapping[str, Any]) -> None:
    """Does this machine have what the spec names, at the paths it names? Raises FailedPrecondition (STORE_NOT_SHARED).
    Folders of the kernel's store have the digest of their content in their names, and are never changed."""
    for name, component in components.items():
        digest = str(component.get("digest", ""))
        for folder in component.get("search_path") or []:
            if not os.path.isdir(folder):
                raise _missing(name, f"{folder} is not there")
            named = os.path.basename(str(folder)).rpartition("-")[2]
            if len(named) == 64 and all(c in "0123456789abcdef" for c in named) and not digest.startswith(named):
                raise _missing(name, f"{folder} is another build than {digest[:16]}")
        for word in (component.get("host") or [])[:1]:
            if os.path.isabs(word) and not os.access(word, os.X_OK):
                raise _missing(name, f"{word} is not there")


def decode(text: object) -> bytes:
    """Base64 of the kernel. Raises FailedPrecondition (AGENT_ANSWER_INVALID)."""
    with contextlib.suppress(ValueError, TypeError):
        return base64.b64decode(str(text), validate=True)
    raise FailedPrecondition("the kernel sent something that is not base64", reason="AGENT_ANSWER_INVALID")


def _bind(listener: socket.socket, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener.bind(path)


def _missing(component: str, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{component}: {what} on {socket.gethostname()}; share the kernel's plugin store with this machine, or sync it "
        "there to the same path (docs/scaling.md), and retry the job",
        reason="STORE_NOT_SHARED",
        metadata={"component": component, "host": socket.gethostname()},
    )

"""Runner: one attempt's process, from start or adoption until its outcome is known.

Its life: `launch` or `adopt`; `outcome()` follows it: attached over its socket, re-attached when that breaks, until
the
journal says `finished` or the process has gone. What an operator wants (paused, cancelled, throttled) is kept here
as wishes
and sent again after each attach, so that a command can be lost and still be obeyed.

Not here: what an outcome means for the job (dispatcher).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog
from hypersdk.errors import HyperError, Unavailable

from hypersdk_kernel.engine.rundir import Journal, RunDir
from hypersdk_kernel.hosting.peer import Peer
from hypersdk_kernel.hosting.process import Child, adopt, current_boot_id, process_start_ticks, spawn
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.job import Progress
from hypersdk_kernel.store import codec

log = structlog.get_logger(__name__)

_PING_S = 10.0
_HUNG_S = 60.0
"""A runner that answers nothing for that long is killed. Long, because a runner may be stopped by a debugger or
starved
by a full machine, and its attempt's work is worth more than a minute."""
_RATE_WINDOW_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `status`: succeeded, failed, cancelled, or lost when it died without a word."""

    status: str
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    journal: Journal = field(default_factory=Journal)


class Line(Protocol):
    """What commands are sent over."""

    async def request(self, method: str, params: dict[str, Any], timeout_s: float) -> Any: ...
    def close(self) -> None: ...


class Runner:
    """See the module's docstring. `on_progress` is called on the loop."""

    def __init__(
        self,
        job_id: str,
        number: int,
        rundir: RunDir,
        clock: Clock,
        *,
        paused: bool = False,
        bandwidth_limit: int = 0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.job_id = job_id
        self.number = number
        self.rundir = rundir
        self.paused = paused
        self.progress: Progress | None = None
        self.pid = 0
        self._clock = clock
        self._cancel_reason: str | None = None
        self._bandwidth_limit = bandwidth_limit
        self._on_progress = on_progress
        self._child: Child | None = None
        self._peer: Line | None = None
        self._seq = 0
        self._finished = asyncio.Event()
        self._samples: list[tuple[float, int]] = []

    def launch(self, spec: dict[str, Any], lock_fd: int) -> None:
        """Start the process. `spec` as in docs/host-protocol.md but for the descriptors, which are added here. Raises
        Unavailable (PROCESS_START_FAILED) and OSError; the caller still owns `lock_fd`."""
        listener = self.rundir.listen(self.number)
        spec_fd = os.memfd_create("hypersdk-spec", os.MFD_CLOEXEC)
        output_fd = os.open(
            self.rundir.attempt(self.number) / "output.log",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        try:
            body = codec.dumps({**spec, "listen_fd": listener.fileno(), "lock_fd": lock_fd}).encode()
            view = memoryview(body)
            while view:
                view = view[os.write(spec_fd, view) :]
            os.lseek(spec_fd, 0, os.SEEK_SET)
            self._child = spawn(
                [sys.executable, "-I", "-B", "-m", "hypersdk.runner", "--spec-fd", str(spec_fd)],
                pass_fds=(spec_fd, listener.fileno(), lock_fd),
                stdout=output_fd,
                stderr=output_fd,
                cwd=self.rundir.path,
                new_session=True,
            )
            self.pid = self._child.pid
        finally:
            listener.close()
            os.close(spec_fd)
            os.close(output_fd)

    async def outcome(self) -> Outcome:
        """Follow it to its end. Cancelling this lets go of the runner, which goes on."""
        beat = asyncio.create_task(self._beat())
        follow = asyncio.create_task(self._follow())
        gone = asyncio.create_task(self._gone())
        finished = asyncio.create_task(self._finished.wait())
        try:
            await asyncio.wait({gone, finished}, return_when=asyncio.FIRST_COMPLETED)
            return self._read_outcome()
        finally:
            for task in (beat, follow, gone, finished):
                task.cancel()
            await asyncio.gather(beat, follow, gone, finished, return_exceptions=True)
            self._detach()

    async def wait_gone(self, timeout_s: float) -> bool:
        """Wait until the process has let go of the job's lock."""
        try:
            await asyncio.wait_for(self._gone(), timeout_s)
        except TimeoutError:
            return False
        return True

    def cancel(self, reason: str) -> None:
        self._cancel_reason = reason
        self._command("cancel", {"reason": reason})

    def pause(self) -> None:
        self.paused = True
        self._samples.clear()
        self._command("pause", {})

    def resume(self) -> None:
        self.paused = False
        self._command("resume", {})

    def throttle(self, bytes_per_second: int) -> None:
        self._bandwidth_limit = bytes_per_second
        self._command("throttle", {"bytes_per_second": bytes_per_second})

    def kill(self) -> None:
        """SIGKILL."""
        if self._child is not None:
            self._child.kill(signal.SIGKILL)

    def _command(self, method: str, params: dict[str, Any]) -> None:
        peer = self._peer
        if peer is None:
            return  # sent as a wish when it is attached

        async def send() -> None:
            try:
                await peer.request(method, params, _PING_S)
            except HyperError as exc:
                log.info("runner_command_failed", job=self.job_id, command=method, reason=exc.reason)

        task = asyncio.ensure_future(send())
        _COMMANDS.add(task)
        task.add_done_callback(_COMMANDS.discard)

    def _read_outcome(self) -> Outcome:
        journal = self.rundir.journal(self.number)
        finished = journal.finished
        if finished is not None:
            return Outcome(str(finished.get("status")), finished.get("result"), finished.get("error"), journal)
        code = self._child.returncode if self._child is not None else None
        tail = self.rundir.output_tail(self.number)
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with exit status {code}"
        error = Unavailable(
            f"the runner of attempt {self.number} died{how} without a word"
            + (f"; it printed last: {tail}" if tail else ""),
            reason="RUNNER_LOST",
            metadata={"pid": str(self.pid)},
        )
        return Outcome("lost", None, error.to_json(), journal)

    async def _gone(self) -> None:
        """Returns when the process has ended: by its pidfd where we have one, else by its lock."""
        delay = 0.02
        while self.rundir.alive():
            if self._child is not None and self._child.running:
                await self._child.wait()
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1.0)

    async def _follow(self) -> None:
        delay = 0.05
        while not self._finished.is_set():
            try:
                about = {"peer": "runner", "job": f"jobs/{self.job_id}", "attempt": self.number}
                peer = Peer(self.rundir.connect(self.number), self._on_notification, about=about)
            except OSError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                continue
            self._peer = peer
            try:
                answer = await peer.request("attach", {"after_seq": self._seq}, 30.0)
                self._attached(answer)
                delay = 0.05
                await asyncio.shield(peer.closed)  # cancelling us must not cancel what others wait for
            except HyperError as exc:
                log.info("runner_attach_failed", job=self.job_id, attempt=self.number, reason=exc.reason)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
            finally:
                self._peer = None
                peer.close()

    def _attached(self, answer: Any) -> None:
        pid = answer.get("pid") if isinstance(answer, dict) else None
        if isinstance(pid, int) and self._child is None:
            ticks = process_start_ticks(pid)
            self._child = None if ticks is None else adopt(pid, ticks, current_boot_id())
            self.pid = pid
        if self._cancel_reason is not None:
            self._command("cancel", {"reason": self._cancel_reason})
        self._command("pause" if self.paused else "resume", {})
        self._command("throttle", {"bytes_per_second": self._bandwidth_limit})

    async def _beat(self) -> None:
        """Kill a runner that has long answered nothing."""
        heard = self._clock.monotonic()
        while True:
            await asyncio.sleep(_PING_S)
            peer = self._peer
            try:
                if peer is not None:
                    await peer.request("ping", {}, _PING_S)
                    heard = self._clock.monotonic()
            except HyperError as exc:
                log.info("runner_silent", job=self.job_id, attempt=self.number, reason=exc.reason)
            if self._clock.monotonic() - heard > _HUNG_S:
                log.warning("runner_hung", job=self.job_id, attempt=self.number, pid=self.pid)
                self.kill()

    def _on_notification(self, method: str, params: dict[str, Any]) -> None:
        if method == "progress":
            self._on_progress_message(params)
        elif method == "record":
            seq = params.get("seq")
            if isinstance(seq, int):
                self._seq = max(self._seq, seq)
            if params.get("type") == "progress":
                self._on_progress_message(params)
            elif params.get("type") == "finished":
                self._finished.set()

    def _on_progress_message(self, params: Mapping[str, Any]) -> None:
        progress = progress_from_wire(params, self._clock.now())
        now = self._clock.monotonic()
        self._samples = [s for s in self._samples if s[0] > now - _RATE_WINDOW_S][-100:]
        self._samples.append((now, progress.bytes_done))
        seconds = now - self._samples[0][0]
        rate = int((progress.bytes_done - self._samples[0][1]) / seconds) if seconds > 0.2 else 0
        self.progress = replace(progress, rate_bytes=max(rate, 0))
        if self._on_progress is not None:
            self._on_progress(self.progress)

    def _detach(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


_COMMANDS: set[asyncio.Future[None]] = set()
"""Commands in flight; the loop itself keeps only weak references to tasks."""


def progress_from_wire(params: Mapping[str, Any], now: float, rate: int = 0) -> Progress:
    """A Progress out of a runner's message, which is not trusted to have the right types."""

    def number(key: str, default: int) -> int:
        value = params.get(key)
        return value if isinstance(value, int) and -1 <= value < 1 << 63 else default

    return Progress(
        phase=str(params.get("phase") or "")[:100],
        bytes_done=number("bytes_done", 0),
        bytes_total=number("bytes_total", -1),
        bytes_read=number("bytes_read", 0),
        bytes_written=number("bytes_written", 0),
        message=str(params.get("message") or "")[:500],
        update_time=now,
        rate_bytes=rate,
    )

"""The life of a runner: spec → started → the task (or the cleanup) → finished → exit.

The task runs on the main thread. Whatever it does, one `finished` record follows; if not even that can be
written, the exit status says that the attempt was lost.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hypersdk.errors import HyperError, Internal, InvalidArgument, Unavailable, from_exception
from hypersdk.runner import resources
from hypersdk.runner import spec as spec_module
from hypersdk.runner.checkpoint import CheckpointStore
from hypersdk.runner.components import Components
from hypersdk.runner.context import RunnerContext
from hypersdk.runner.control import Control
from hypersdk.runner.gate import Gate
from hypersdk.runner.journal import FILE_NAME as JOURNAL_NAME
from hypersdk.runner.journal import Journal
from hypersdk.runner.log import FILE_NAME as LOG_NAME
from hypersdk.runner.log import AttemptLog
from hypersdk.runner.output import FILE_NAME as OUTPUT_NAME
from hypersdk.runner.output import OutputGuard
from hypersdk.runner.progress import ProgressMeter
from hypersdk.runner.spec import RunnerSpec
from hypersdk.runner.throttle import TokenBucket
from hypersdk.wire import confine, stdio
from hypersdk.wire.redact import Redactor
from hypersdk.wire.rpc import Method, Request, bounded_json

MAX_RESULT_BYTES = 1 << 20
LINGER_S = 2.0
"""Seconds that an attached kernel is given to be sent `finished`, and connections to be closed."""
EXIT_LOST = 1
ORPHAN_GRACE_S = 15.0
"""Seconds for the task of a runner that no kernel looks after to stop and to release what it holds."""


class Attempt:
    """One attempt. Made and run once, on the main thread."""

    def __init__(self, spec: RunnerSpec, listener: socket.socket, redactor: Redactor, wake_fd: int) -> None:
        self._spec = spec
        self._redactor = redactor
        self._log = AttemptLog(
            spec.attempt_dir / LOG_NAME, redactor, file_bytes=spec.log_file_bytes, files=spec.log_files
        )
        self._journal = Journal(spec.attempt_dir / JOURNAL_NAME, redactor)
        self._store = CheckpointStore(spec.job_dir)
        self._gate = Gate(paused=spec.paused)
        self._bucket = TokenBucket(spec.bandwidth_limit_bytes)
        self._heard = time.monotonic()
        self._orphaned = False
        self._meter = ProgressMeter(self._journal, redactor)
        self._components = Components(spec, self._log)
        self._resources = resources.Resources(self._journal, self._earlier(), spec.secrets())
        commands = {
            "ping": Method(self._ping),
            "cancel": Method(lambda request: self._cancel(str(request.params.get("reason", "")))),
            "pause": Method(self._pause),
            "resume": Method(self._resume),
            "throttle": Method(self._throttle),
        }
        self._control = Control(
            listener, self._journal, self._meter, commands,
            wake_fd=wake_fd, on_sigterm=lambda: self._cancel("the runner was sent SIGTERM"),
        )  # fmt: skip

    def run(self) -> int:
        """The exit status."""
        self._control.start()
        if self._spec.orphan_s:
            threading.Thread(target=self._watch_kernel, name="orphan", daemon=True).start()
        outcome = self._outcome()
        try:
            seq = self._journal.append("finished", outcome, sync=True)
        except HyperError as exc:
            self._log.write("attempt_lost", "error", {"error": exc.message, "status": outcome["status"]})
            print(f"cannot journal the outcome: {exc.message}", file=sys.stderr)  # noqa: T201 - output.log
            return EXIT_LOST
        closing = threading.Thread(target=self._components.close, name="close", daemon=True)
        closing.start()
        self._control.flush(seq, LINGER_S)
        closing.join(LINGER_S)
        return 0

    def _outcome(self) -> dict[str, Any]:
        """The fields of `finished`."""
        outcome: dict[str, Any]
        try:
            outcome = {"status": "succeeded", "result": self._execute()}
        except BaseException as exc:  # noqa: BLE001 - whatever ends a task is its outcome
            error = bounded_json(self._typed(exc))
            outcome = {"status": "cancelled" if self._gate.cancelled else "failed", "error": error}
            if self._orphaned:
                outcome = {"status": "failed", "error": bounded_json(_orphan(self._spec.orphan_s))}
        with contextlib.suppress(HyperError):  # it is for the eye; what fails here fails `finished` too
            self._meter.flush()
        return {**outcome, "outstanding": self._resources.outstanding()}

    def _execute(self) -> dict[str, Any]:
        started = {**identity(), "attempt": self._spec.attempt, "mode": self._spec.mode}
        self._journal.append("started", {**started, "resumed": self._store.exists()})
        if self._spec.paused:
            self._journal.append("paused", {})
        if self._spec.mode == "cleanup":
            return self._clean_up()
        context = RunnerContext(
            self._spec,
            checkpoint=self._store.load(),
            store=self._store,
            journal=self._journal,
            log=self._log,
            components=self._components,
            resources=self._resources,
            meter=self._meter,
            gate=self._gate,
            bucket=self._bucket,
        )
        with self._timed("load"):
            task = self._components.task(self._spec.task)
        with self._timed("run"):
            return checked_result(task.run(context))

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Journals how long something took, if the kernel traces this job."""
        start, error = time.time(), ""
        try:
            yield
        except BaseException as exc:
            error = exc.reason if isinstance(exc, HyperError) else type(exc).__name__
            raise
        finally:
            if self._spec.traceparent:
                with contextlib.suppress(HyperError):  # a full disk fails `finished`, which counts
                    self._journal.append("span", {"name": name, "start": start, "end": time.time(), "error": error})

    def _clean_up(self) -> dict[str, Any]:
        """Release what dead attempts held. One that fails does not keep the others; the first error is
        raised then."""
        first: HyperError | None = None
        for resource_id, held in self._resources.earlier().items():
            self._gate.check()
            try:
                self._components.cleanup(held["component"], held["record"])
                self._resources.released(resource_id)
            except Exception as exc:  # noqa: BLE001 - a plugin may raise anything
                error = self._typed(exc)
                fields = {"resource_id": resource_id, "error": error.message}
                self._log.write("cleanup_failed", "error", fields)
                first = first or error
        if first is not None:
            raise first
        return {}

    def _earlier(self) -> Mapping[str, resources.Held]:
        if self._spec.mode == "cleanup":
            return {k: resources.held_from_json(v) for k, v in self._spec.outstanding.items()}
        return resources.of_earlier_attempts(self._spec.attempt_dir.parent, self._spec.attempt)

    def _typed(self, exc: BaseException) -> HyperError:
        """As an error of the tree; a defect's traceback goes to the log."""
        if isinstance(exc, SystemExit):
            exc = Internal(f"the task called sys.exit({exc.code!r})", reason="PLUGIN_EXITED")
        error = from_exception(exc, doing=self._spec.task)
        if error is not exc or isinstance(exc, Internal):
            import traceback

            trace = "".join(traceback.format_exception(exc))[-16384:]
            self._log.write("task_raised", "error", {"traceback": trace})
        return error

    # -- commands --------------------------------------------------------------------------------------------

    def _ping(self, _request: Request) -> dict[str, Any]:
        self._heard = time.monotonic()
        return {}

    def _watch_kernel(self) -> None:
        """End when no kernel has asked for us for long: another one, which cannot see this machine, is about to start
        the job anew. A task that does not stop is not waited for."""
        while time.monotonic() - self._heard < self._spec.orphan_s:
            time.sleep(min(1.0, self._spec.orphan_s / 4))
        self._orphaned = True
        self._cancel(f"no kernel asked for this attempt in {self._spec.orphan_s} s")
        time.sleep(ORPHAN_GRACE_S)
        os._exit(EXIT_LOST)

    def _cancel(self, reason: str) -> dict[str, Any]:
        if self._gate.cancel(reason):
            self._log.write("cancel_requested", "info", {"reason": reason})
            self._bucket.release()
        return {}

    def _pause(self, _request: Request) -> dict[str, Any]:
        if self._gate.pause():
            self._journal.append("paused", {})
        return {}

    def _resume(self, _request: Request) -> dict[str, Any]:
        if self._gate.resume():
            self._journal.append("resumed", {})
        return {}

    def _throttle(self, request: Request) -> dict[str, Any]:
        rate = request.params.get("bytes_per_second")
        if not isinstance(rate, int) or isinstance(rate, bool) or rate < 0:
            raise InvalidArgument("bytes_per_second must be an integer >= 0", reason="RATE_INVALID")
        self._bucket.set_rate(rate)
        return {}


def _orphan(silent_s: int) -> HyperError:
    return Unavailable(
        f"no kernel asked for this attempt in {silent_s} s, so it ended itself", reason="RUNNER_ORPHANED"
    )


def checked_result(result: object) -> dict[str, Any]:
    """What a task returned, as JSON gives it back. Raises Internal (PLUGIN_RESULT_INVALID)."""
    if not isinstance(result, Mapping):
        text = f"the task returned a {type(result).__name__}, not a mapping; this is a defect of the plugin"
        raise Internal(text, reason="PLUGIN_RESULT_INVALID")
    try:
        data = json.dumps(dict(result), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        text = f"the task's result is not JSON: {exc}; this is a defect of the plugin"
        raise Internal(text, reason="PLUGIN_RESULT_INVALID") from exc
    if len(data) > MAX_RESULT_BYTES:
        text = f"the task's result has {len(data)} bytes; at most {MAX_RESULT_BYTES} are kept"
        raise Internal(text, reason="PLUGIN_RESULT_INVALID")
    return dict(json.loads(data))


def identity() -> dict[str, Any]:
    """What tells this process from every other, also after its pid was used again or the machine
    restarted."""
    # Field 2, the program's name, may hold spaces and parentheses: count from its end (proc_pid_stat(5)).
    fields_from_state = Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return {"pid": os.getpid(), "start_ticks": int(fields_from_state[22 - 3]), "boot_id": boot_id}


def main(spec_fd: int) -> NoReturn:
    """Execute the attempt that the memory file `spec_fd` describes, and end the process."""
    try:
        spec = spec_module.read(spec_fd)
        status = _run(spec)
    except (HyperError, OSError) as exc:
        print(f"hypersdk.runner: {from_exception(exc).message}", file=sys.stderr)  # noqa: T201
        status = EXIT_LOST
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # a plugin's threads are not waited for


def _run(spec: RunnerSpec) -> int:
    redactor = Redactor(spec.secrets())
    spec.attempt_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (spec.job_dir / "scratch").mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(spec.attempt_dir / OUTPUT_NAME, flags, 0o600)
    stdio.detach_stdio(output, redactor)
    os.close(output)
    stdio.claim(spec.lock_fd)  # held until the process ends: the lock is on the open file, not on its number
    listener = socket.socket(fileno=stdio.claim(spec.listen_fd))
    stdio.harden()
    if spec.parent_pid:
        stdio.die_with(spec.parent_pid)
    confine.apply(spec.confine)
    faulthandler.enable()
    OutputGuard(spec.attempt_dir / OUTPUT_NAME, spec.log_file_bytes, spec.log_files).start()
    return Attempt(spec, listener, redactor, _watch_signals()).run()


def _watch_signals() -> int:
    """A descriptor that tells the numbers of signals that arrived, whatever the main thread is doing.
    Handlers that do nothing are set instead of SIG_IGN, which programs started by a plugin would
    inherit."""
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _note)
    return read_fd


def _note(number: int, frame: object) -> None:
    """The signal's number is on the wake-up descriptor; Control reads it."""

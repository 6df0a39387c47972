"""Brief tasks: many attempts, one after the other, in one warm process.

A task whose manifest claims the capability `brief` is short, moves no data and holds nothing: no connection, no
checkpoint, no scratch folder, nothing acquired. Starting a process for each would cost a hundred times the work. The
kernel sends batches; each outcome is in the journal as soon as there is one, and all are synced before the batch is
answered: kill -9 of a worker repeats the attempt at hand at most, a power cut the batch. When the kernel has gone, the
batch at hand is finished and journaled, and the process ends; the next kernel reads the journal.

Not here: tasks that move data (attempt).
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

from hypersdk.errors import HyperError, InvalidArgument, Unsupported, from_exception
from hypersdk.plugin.loading import create, extend_search_path, load
from hypersdk.plugin.task import Progress, TaskContext
from hypersdk.runner import spec as spec_module
from hypersdk.runner.attempt import EXIT_LOST, checked_result, identity
from hypersdk.runner.gate import Gate
from hypersdk.runner.journal import FILE_NAME as JOURNAL_NAME
from hypersdk.runner.journal import Journal
from hypersdk.runner.log import FILE_BYTES, FILES, AttemptLog
from hypersdk.runner.log import FILE_NAME as LOG_NAME
from hypersdk.runner.output import OutputGuard
from hypersdk.wire import confine, stdio
from hypersdk.wire.redact import Redactor
from hypersdk.wire.rpc import Method, Peer, Request, bounded_json

CAPABILITY = "brief"
MAX_BATCH = 256


class BriefContext(TaskContext):
    """What a brief task gets: its spec, `check`, `progress` (which nobody is told of) and a log. The rest raises
    Unsupported (TASK_BRIEF)."""

    def __init__(self, job: str, attempt: int, spec: Mapping[str, Any], folder: Path, gate: Gate) -> None:
        self.job = job
        self.attempt = attempt
        self.spec = spec
        self.checkpoint = None
        self._folder = folder
        self._gate = gate
        self._log: AttemptLog | None = None

    @property
    def scratch_dir(self) -> Path:  # type: ignore[override]  # an attribute elsewhere; asked for, it must refuse
        raise _unsupported("scratch_dir")

    def provider(self, connection: str) -> Any:
        raise _unsupported("provider")

    def storage(self, connection: str) -> Any:
        raise _unsupported("storage")

    def component(self, connection: str) -> str:
        raise _unsupported("component")

    def image_format(self, name: str) -> Any:
        raise _unsupported("image_format")

    def image_formats(self) -> Sequence[Any]:
        raise _unsupported("image_formats")

    def open_image(self, path: Path, format_name: str = "", options: Mapping[str, str] | None = None) -> Any:
        raise _unsupported("open_image")

    def progress(self, progress: Progress) -> None:
        """A brief task is over before anybody would look."""

    def check(self) -> None:
        self._gate.check()

    def throttle(self, nbytes: int) -> None:
        raise _unsupported("throttle")

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        raise _unsupported("save_checkpoint")

    def acquired(self, resource_id: str, component: str, record: Mapping[str, Any]) -> None:
        raise _unsupported("acquired")

    def released(self, resource_id: str) -> None:
        raise _unsupported("released")

    def outstanding(self) -> Mapping[str, Mapping[str, Any]]:
        return {}

    def log(self, event: str, /, level: str = "info", **fields: Any) -> None:
        if self._log is None:  # most brief attempts say nothing, and then have no folder
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._log = AttemptLog(self._folder / LOG_NAME, Redactor())
        self._log.write(event, level, fields)


class BriefServer:
    """One worker. Batches run on the main thread, in the order in which they came."""

    def __init__(
        self, sock: socket.socket, components: Mapping[str, spec_module.ComponentSpec], journal: Journal
    ) -> None:
        self._journal = journal
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()
        self._main: SimpleQueue[Any] = SimpleQueue()
        extend_search_path([p for c in components.values() for p in c.search_path])
        self._classes = {name: load(name, c.entry) for name, c in components.items() if name.startswith("task/")}
        self._peer = Peer(
            sock,
            {
                "execute": Method(self._execute, self._main.put),
                "cancel_job": Method(self._cancel),
                "ping": Method(lambda _request: {}),
            },
        )

    def run(self) -> None:
        """Until the kernel closes the connection and the last batch is done."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while (job := self._main.get()) is not None:
            job()

    def _read(self) -> None:
        self._peer.run()
        self._main.put(None)

    def _execute(self, request: Request) -> dict[str, Any]:
        attempts = request.params.get("attempts")
        if not isinstance(attempts, list) or len(attempts) > MAX_BATCH:
            raise InvalidArgument(f"attempts must be a list of at most {MAX_BATCH}", reason="ATTEMPTS_INVALID")
        outcomes = []
        for left, attempt in zip(range(len(attempts) - 1, -1, -1), attempts, strict=True):
            outcome = self._one(attempt)
            # Written at once, so that the death of this process costs no outcome but the one at hand; synced once.
            self._journal.append("finished", outcome, sync=not left)
            outcomes.append(outcome)
        return {"outcomes": outcomes}

    def _one(self, attempt: Mapping[str, Any]) -> dict[str, Any]:
        job, number = str(attempt.get("job")), int(attempt.get("attempt") or 1)
        gate = Gate()
        with self._lock:
            self._gates[job] = gate
        outcome: dict[str, Any]
        try:
            context = BriefContext(job, number, attempt.get("spec") or {}, Path(str(attempt.get("attempt_dir"))), gate)
            component = f"task/{attempt.get('task')}"
            task = create(component, self._classes[component])
            outcome = {"status": "succeeded", "result": checked_result(task.run(context))}
        except BaseException as exc:  # noqa: BLE001 - whatever ends a task is its outcome
            error = bounded_json(from_exception(exc, doing=str(attempt.get("task"))))
            outcome = {"status": "cancelled" if gate.cancelled else "failed", "error": error}
        with self._lock:
            del self._gates[job]
        return {"job": job, "attempt": number, **outcome}

    def _cancel(self, request: Request) -> dict[str, Any]:
        with self._lock:
            gate = self._gates.get(str(request.params.get("job")))
        return {"found": gate is not None and gate.cancel(str(request.params.get("reason", "")))}


def _unsupported(what: str) -> Unsupported:
    return Unsupported(
        f"a brief task has no {what}; leave the capability `{CAPABILITY}` out of the manifest to have a runner of "
        "its own",
        reason="TASK_BRIEF",
    )


def main(spec_fd: int) -> NoReturn:
    """Serve the batches of the kernel behind the socket that the memory file `spec_fd` names, and end the process."""
    status = 0
    try:
        _serve(spec_module.read_brief(spec_fd))
    except (HyperError, OSError) as exc:
        print(f"hypersdk.runner: {from_exception(exc).message}", file=sys.stderr)  # noqa: T201
        status = EXIT_LOST
    try:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
    finally:
        os._exit(status)


def _serve(spec: spec_module.BriefSpec) -> None:
    redactor = Redactor()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    output = os.open(spec.pool_dir / "output.log", flags, 0o600)
    stdio.detach_stdio(output, redactor)
    os.close(output)
    stdio.claim(spec.lock_fd)
    sock = socket.socket(fileno=stdio.claim(spec.socket_fd))
    stdio.harden()
    confine.apply(spec.confine)
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # the kernel decides when it ends: by hanging up
        signal.signal(number, _ignore)
    OutputGuard(spec.pool_dir / "output.log", FILE_BYTES, FILES).start()
    journal = Journal(spec.pool_dir / JOURNAL_NAME, redactor)
    journal.append("started", identity())
    BriefServer(sock, spec.components, journal).run()


def _ignore(number: int, frame: object) -> None:
    """Instead of SIG_IGN, which programs started by a plugin would inherit."""

"""Starts real hosts and runners for tests and plays the kernel's side of docs/host-protocol.md towards them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hypersdk.wire.rpc import Method, Peer

TIMEOUT_S = 20.0


class Conversation:
    """A connection to a child: `peer` to ask with, and what it told by itself, in order."""

    def __init__(self, sock: socket.socket) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self._changed = threading.Condition()
        names = ("record", "progress", "log")
        self.peer = Peer(sock, {name: Method(self._note) for name in names})
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        self.peer.run()
        with self._changed:
            self._changed.notify_all()

    def _note(self, request) -> None:
        with self._changed:
            self.told.append((request.method, request.params))
            self._changed.notify_all()

    def of(self, name: str) -> list[dict[str, Any]]:
        return [params for method, params in list(self.told) if method == name]

    def wait_for(self, condition) -> None:
        """Wait until `condition(self)` holds, which is tried after everything that arrives."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), TIMEOUT_S), self.told

    def wait_record(self, kind: str) -> dict[str, Any]:
        self.wait_for(lambda c: any(r["type"] == kind for r in c.of("record")))
        return next(r for r in self.of("record") if r["type"] == kind)


def write_module(folder: Path, name: str, source: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(source)


class HostProcess(Conversation):
    """A host on a socket pair; its output is collected in `output`."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        self.output = folder / "host.out"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-m", "hypersdk.host", "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        theirs.close()
        super().__init__(ours)

    def initialize(self, search_path: Path, **components: str) -> dict[str, Any]:
        named = {name.replace("_", "/"): entry for name, entry in components.items()}
        return self.peer.request(
            "initialize",
            {"protocol": 1, "generation": "plugins/x/generations/1", "search_path": [str(search_path)],
             "components": named, "manifest": {}},
            TIMEOUT_S,
        )  # fmt: skip

    def call(self, component: str, method: str, request=None, connection=None) -> Any:
        params = {"component": component, "method": method, "service": "", "request": request or {}}
        return self.peer.request("call", {**params, "connection": connection, "timeout_s": TIMEOUT_S}, TIMEOUT_S)

    def stop(self) -> int:
        self.peer.close()
        return self.process.wait(TIMEOUT_S)


class Job:
    """A job's directory, and the runners of its attempts."""

    def __init__(self, folder: Path) -> None:
        self.plugins = folder / "plugins"
        self.job_dir = folder / "run"
        self.job_dir.mkdir()
        self._processes: list[subprocess.Popen] = []

    def attempt_dir(self, attempt: int) -> Path:
        return self.job_dir / "attempts" / str(attempt)

    def start(self, attempt: int = 1, attempt_dir: Path | None = None, **spec: Any) -> subprocess.Popen:
        folder = attempt_dir or self.attempt_dir(attempt)
        folder.mkdir(parents=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "s"))
        listener.listen(8)
        lock = os.open(self.job_dir / "lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        body = {
            "protocol": 1, "mode": "run", "job": "jobs/x", "attempt": attempt, "task": "t", "spec": {},
            "job_dir": str(self.job_dir), "attempt_dir": str(folder), "listen_fd": listener.fileno(), "lock_fd": lock,
            "components": {"task/t": self.component("job_task:T")}, "connections": {}, **spec,
        }  # fmt: skip
        memory = os.memfd_create("spec")
        os.write(memory, json.dumps(body).encode())
        fds = [memory, listener.fileno(), lock]
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "hypersdk.runner", "--spec-fd", str(memory)],
            pass_fds=fds, start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(memory)
        os.close(lock)
        listener.close()
        self._processes.append(process)
        return process

    def component(self, entry: str, **manifest: Any) -> dict[str, Any]:
        return {"entry": entry, "search_path": [str(self.plugins)], "manifest": manifest}

    def connect(self, attempt: int = 1, after_seq: int | None = 0) -> Conversation:
        """Connect, and attach unless `after_seq` is None."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.attempt_dir(attempt) / "s"))
        conversation = Conversation(sock)
        if after_seq is not None:
            conversation.peer.request("attach", {"after_seq": after_seq}, TIMEOUT_S)
        return conversation

    def journal(self, attempt: int = 1) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.attempt_dir(attempt) / "journal.jsonl").read_text().splitlines()]

    def finished(self, attempt: int = 1) -> dict[str, Any]:
        last = self.journal(attempt)[-1]
        assert last["type"] == "finished"
        return last

    def locked(self) -> bool:
        """Does a runner of this job live?"""
        fd = os.open(self.job_dir / "lock", os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

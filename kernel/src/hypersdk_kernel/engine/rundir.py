"""What a job has on disk while it runs and afterwards (docs/host-protocol.md, "Runner").

    runs/<uid>/lock               held by the runner as long as it lives
    runs/<uid>/checkpoint.json    where the next attempt goes on
    runs/<uid>/scratch/           the task's own
    runs/<uid>/attempts/<n>/      journal.jsonl  log.jsonl  output.log  s (socket)

The lock is taken here before the runner starts and inherited by it: flock belongs to the open file description, so
there
is no instant at which a living runner does not hold it, even if the kernel dies between the two.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MAX_RECORD = 4 << 20
_TAIL = 2000


@dataclass(slots=True)
class Journal:
    """What an attempt's journal says so far. `acquired`: resource id → record of what is still held."""

    started: Mapping[str, Any] | None = None
    finished: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None
    acquired: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    last_seq: int = 0


class RunDir:
    """One job's folder."""

    def __init__(self, runs: Path, uid: str) -> None:
        self.path = runs / uid

    def attempt(self, number: int) -> Path:
        return self.path / "attempts" / str(number)

    def prepare(self, number: int) -> None:
        """Make the folders of an attempt, readable by us alone."""
        for folder in (self.path, self.path / "scratch", self.path / "attempts", self.attempt(number)):
            folder.mkdir(mode=0o700, exist_ok=True, parents=True)

    def lock(self) -> int | None:
        """A descriptor that holds the lock, or None while a runner of this job lives. Close it to let go."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def alive(self) -> bool:
        """Does a runner of this job live?"""
        if not (self.path / "lock").exists():
            return False
        fd = self.lock()
        if fd is None:
            return True
        os.close(fd)
        return False

    def listen(self, number: int) -> socket.socket:
        """The runner's listening socket, made here so that connecting can never come too early."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self.attempt(number)) as folder:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{folder}/s")
                sock.bind(f"{folder}/s")
            sock.listen(8)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self, number: int) -> socket.socket:
        """A connected, non-blocking socket. Raises OSError when nobody listens."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short(self.attempt(number)) as folder:
                sock.setblocking(False)
                sock.connect(f"{folder}/s")
        except BaseException:
            sock.close()
            raise
        return sock

    def journal(self, number: int) -> Journal:
        """The attempt's journal; empty when it wrote none. A damaged line ends the reading: nothing after it
        counts."""
        out = Journal()
        try:
            with (self.attempt(number) / "journal.jsonl").open("rb") as file:
                while line := file.readline(_MAX_RECORD):
                    if not line.endswith(b"\n"):
                        break
                    record = json.loads(line)
                    _apply(out, record)
        except FileNotFoundError:
            return out
        except (ValueError, TypeError, KeyError):
            return out
        return out

    def outstanding(self, attempts: int) -> dict[str, dict[str, Any]]:
        """What attempts 1 to `attempts` acquired and nobody released: resource id → {component, record}."""
        held: dict[str, dict[str, Any]] = {}
        for number in range(1, attempts + 1):
            journal = self.journal(number)
            for resource in journal.released:
                held.pop(resource, None)
            for resource, record in journal.acquired.items():
                held[resource] = {"component": record.get("component"), "record": record.get("record")}
        return held

    def output_tail(self, number: int) -> str:
        """The last lines that the runner printed, for the message of a lost attempt."""
        try:
            with (self.attempt(number) / "output.log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL))
                return file.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""

    def forget_work(self) -> None:
        """Drop checkpoint and scratch; journals and logs stay."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path / "checkpoint.json")
        shutil.rmtree(self.path / "scratch", ignore_errors=True)


def _apply(journal: Journal, record: Mapping[str, Any]) -> None:
    journal.last_seq = int(record["seq"])
    kind = record["type"]
    if kind == "started":
        journal.started = record
    elif kind == "progress":
        journal.progress = record
    elif kind == "acquired":
        journal.acquired[str(record["resource_id"])] = record
        journal.released.discard(str(record["resource_id"]))
    elif kind == "released":
        journal.acquired.pop(str(record["resource_id"]), None)
        journal.released.add(str(record["resource_id"]))
    elif kind == "finished":
        journal.finished = record


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A name of `folder` that fits into sun_path (108 bytes) however deep it lies."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)

"""Warm workers for brief tasks (docs/host-protocol.md, "Brief tasks"): processes that run batch after batch.

    runs/brief/<id>/lock           held by the worker as long as it lives
    runs/brief/<id>/journal.jsonl  its outcomes, synced before they are answered
    runs/brief/<id>/output.log

A worker belongs to the kernel that started it: when that goes, it finishes its batch, journals it and ends. The next
kernel waits for the lock, and reads what was done.

Not here: which jobs, and what their outcomes mean (briefs).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
from hypersdk.errors import HyperError

from hypersdk_kernel.hosting.peer import Peer
from hypersdk_kernel.hosting.process import Child, spawn
from hypersdk_kernel.store import codec

log = structlog.get_logger(__name__)

IDLE_S = 60.0
"""A worker without work for so long is ended."""
_BATCH_S = 3600.0
_MAX_ATTEMPTS = 20_000
"""After so many a worker is replaced: its journal stays short, and what a task leaks ends with it."""
_LAST_BATCH_S = 60.0
"""What the worker of a kernel that has gone gets to finish its batch before it is killed."""
_MAX_LINE = 4 << 20

_FREE: Mapping[str, Any] = {}
Key = tuple[tuple[str, str], ...]
"""What a worker has imported: (generation, digest), in order."""


class BriefWorker:
    """One process. `on_end` is called when its connection closes."""

    def __init__(
        self,
        folder: Path,
        key: Key,
        components: Mapping[str, Any],
        confine: Mapping[str, Any],
        on_end: Callable[[BriefWorker], None],
    ) -> None:
        self.id = folder.name
        self.key = key
        self.batches = 0
        self.served = 0
        self._folder = folder
        self._on_end = on_end
        self._idle: asyncio.TimerHandle | None = None
        folder.mkdir(mode=0o700, parents=True)
        lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, theirs = socket.socketpair()
        spec_fd = os.memfd_create("hypersdk-brief", os.MFD_CLOEXEC)
        try:
            spec = {
                "protocol": 1, "pool_dir": str(folder), "socket_fd": theirs.fileno(), "lock_fd": lock_fd,
                "components": components, "confine": dict(confine),
            }  # fmt: skip
            view = memoryview(codec.dumps(spec).encode())
            while view:
                view = view[os.write(spec_fd, view) :]
            self._child: Child = spawn(
                [sys.executable, "-I", "-B", "-m", "hypersdk.runner", "--brief-fd", str(spec_fd)],
                pass_fds=(spec_fd, theirs.fileno(), lock_fd),
                cwd=folder,
                new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(spec_fd)
            os.close(lock_fd)
        self._peer = Peer(ours, lambda _method, _params: None)
        self._peer.closed.add_done_callback(lambda _: self._ended())

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def usable(self) -> bool:
        return not self._peer.closed.done() and self.served < _MAX_ATTEMPTS

    async def execute(self, attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The outcomes, in order; of a worker that died, those that it journaled."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self.batches += 1
        self.served += len(attempts)
        try:
            answer = await self._peer.request("execute", {"attempts": attempts}, _BATCH_S)
            return list(answer["outcomes"])
        except HyperError as exc:
            log.warning("brief_worker_failed", worker=self.id, pid=self.pid, reason=exc.reason, message=exc.message)
            self.kill()
            await self._child.wait()
            wanted = {(a["job"], a["attempt"]) for a in attempts}
            return [o for o in await asyncio.to_thread(journaled, self._folder) if (o["job"], o["attempt"]) in wanted]
        finally:
            self.batches -= 1
            if not self.batches:
                self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.close)

    def cancel(self, job: str, reason: str) -> None:
        task = asyncio.ensure_future(self._tell("cancel_job", {"job": job, "reason": reason}))
        _COMMANDS.add(task)
        task.add_done_callback(_COMMANDS.discard)

    def kill(self) -> None:
        self._child.kill(signal.SIGKILL)

    def close(self) -> None:
        """Hang up: it finishes its batch, journals it, and ends."""
        if self._idle is not None:
            self._idle.cancel()
        self._peer.close()

    async def _tell(self, method: str, params: dict[str, Any]) -> None:
        try:
            await self._peer.request(method, params, 10.0)
        except HyperError as exc:
            log.info("brief_command_failed", worker=self.id, command=method, reason=exc.reason)

    def _ended(self) -> None:
        self._on_end(self)


_COMMANDS: set[asyncio.Future[None]] = set()


class BriefPool:
    """The workers of a kernel. Its life: `worker` for each batch; `close` lets them go."""

    def __init__(self, folder: Path, size: int, confine: Mapping[str, Any] = _FREE) -> None:
        """`confine`: as in a runner's spec (docs/host-protocol.md)."""
        self.folder = folder
        self.size = size
        self._confine = confine
        self._workers: list[BriefWorker] = []

    def worker(self, key: Key, components: Callable[[], Mapping[str, Any]]) -> BriefWorker:
        """The least busy one that has imported `key`, or a new one while there are fewer than `size` of it. Raises
        Unavailable (PROCESS_START_FAILED), OSError."""
        mine = [w for w in self._workers if w.key == key and w.usable]
        free = min(mine, key=lambda w: w.batches, default=None)
        if free is not None and (not free.batches or len(mine) >= self.size):
            return free
        made = BriefWorker(self.folder / uuid.uuid4().hex, key, components(), self._confine, self._gone)
        self._workers.append(made)
        log.info("brief_worker_started", worker=made.id, pid=made.pid)
        return made

    def has(self, key: Key) -> bool:
        """Whether a worker that has imported `key` can take a batch."""
        return any(w.key == key and w.usable for w in self._workers)

    def close(self) -> None:
        for worker in list(self._workers):
            worker.close()

    def _gone(self, worker: BriefWorker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)


async def last_words(folder: Path) -> list[dict[str, Any]]:
    """The outcomes of a worker that an earlier kernel started, when it has ended; it is killed when it does not."""
    for _ in range(int(_LAST_BATCH_S / 0.1)):
        if not await asyncio.to_thread(_alive, folder):
            break
        await asyncio.sleep(0.1)
    else:
        pid = await asyncio.to_thread(_pid, folder)
        log.warning("brief_worker_killed", worker=folder.name, pid=pid)
        if pid:
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(_wait_gone, folder)
    return await asyncio.to_thread(journaled, folder)


def journaled(folder: Path) -> list[dict[str, Any]]:
    """Every outcome in a worker's journal."""
    return [record for record in _records(folder) if record.get("type") == "finished"]


def forget(folder: Path) -> None:
    """The journal of a worker that has ended, and all of whose outcomes are in the store."""
    shutil.rmtree(folder, ignore_errors=True)


def _records(folder: Path) -> list[dict[str, Any]]:
    try:
        with open(folder / "journal.jsonl", "rb") as file:
            lines = [line for line in file if line.endswith(b"\n") and len(line) <= _MAX_LINE]
    except FileNotFoundError:
        return []
    out = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a damaged line is no outcome
        if isinstance(record, dict):
            out.append(record)
    return out


def _pid(folder: Path) -> int:
    started = [record for record in _records(folder) if record.get("type") == "started"]
    pid = started[-1].get("pid") if started else 0
    return pid if isinstance(pid, int) and pid > 1 and _alive(folder) else 0


def _wait_gone(folder: Path) -> None:
    """Of a killed process: until the system has let go of its lock."""
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def _alive(folder: Path) -> bool:
    try:
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False

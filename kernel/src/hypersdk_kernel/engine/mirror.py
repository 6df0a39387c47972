"""Mirror: a remote attempt's journal, checkpoint and logs, written into the kernel's own run directory.

What is acknowledged is here: records before the agent is answered, and synced when one of them is such that something
depends on it; a checkpoint whole or not at all. Once `fence` was called nothing is written any more, whoever asks: the
attempt's outcome has been read.

Synchronous and thread-safe; its caller keeps it off the loop.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypersdk.errors import Aborted, FieldViolation, InvalidArgument, from_exception

from hypersdk_kernel.engine.rundir import RunDir

MAX_CHECKPOINT_BYTES = 16 << 20
MAX_RECORD_BYTES = 2 << 20
READ_BYTES = 1 << 20
_DURABLE = frozenset({"finished", "acquired", "released"})
_LOGS = {"log": "log.jsonl", "output": "output.log"}


class Mirror:
    """One attempt's. `log_limit`: bytes kept of each of its logs."""

    def __init__(self, rundir: RunDir, number: int, log_limit: int) -> None:
        self._rundir = rundir
        self._folder = rundir.attempt(number)
        self._number = number
        self._lock = threading.Lock()
        self._fenced = False
        self._left = dict.fromkeys(_LOGS, log_limit)
        self._partial = bytearray()
        self._mend()
        self.seq = rundir.journal(number).last_seq

    def fence(self) -> None:
        with self._lock:
            self._fenced = True

    @property
    def enrolled(self) -> bool:
        """Was the attempt's token taken?"""
        return (self._folder / "enrolled").exists()

    def enrol(self) -> bool:
        """Take it; False when it was taken before. Durable."""
        self._check()
        try:
            fd = os.open(self._folder / "enrolled", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        os.fsync(fd)
        os.close(fd)
        _sync(self._folder)
        return True

    def append(self, records: Sequence[Any]) -> int:
        """The number of the last record that is here. Those that are here already are passed over; a gap is refused.
        Raises InvalidArgument (RECORD_INVALID), Aborted (ATTEMPT_NOT_LIVE), ResourceExhausted (DISK_FULL)."""
        with self._lock:
            self._check()
            seq, lines, durable = self.seq, [], False
            for record in records:
                number = record.get("seq") if isinstance(record, dict) else None
                if not isinstance(number, int) or isinstance(number, bool) or not isinstance(record.get("type"), str):
                    raise _invalid("is no journal record")
                if number <= seq:
                    continue
                if number != seq + 1:
                    raise _invalid(f"{number} follows {seq}")
                line = json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"
                if len(line) > MAX_RECORD_BYTES:
                    raise _invalid(f"{number} has {len(line)} bytes")
                lines.append(line)
                seq, durable = number, durable or record["type"] in _DURABLE
            self._write(b"".join(lines), durable=durable)
            self.seq = seq
            return seq

    def _write(self, data: bytes, *, durable: bool) -> None:
        if not data:
            return
        path = self._folder / "journal.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size = os.fstat(fd).st_size
            try:
                _write_all(fd, data)
                if durable:
                    os.fsync(fd)
            except OSError as exc:
                with contextlib.suppress(OSError):  # the agent sends it again; a torn line must not precede it
                    os.ftruncate(fd, size)
                raise from_exception(exc, doing="mirroring a journal") from exc
        finally:
            os.close(fd)

    def _mend(self) -> None:
        """A kernel that was killed may have left a torn line at the end."""
        path = self._folder / "journal.jsonl"
        with contextlib.suppress(FileNotFoundError), open(path, "r+b") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)

    def checkpoint(self, params: Mapping[str, Any]) -> None:
        """One piece; the last one puts it in place. Raises InvalidArgument (CHECKPOINT_INVALID), Aborted."""
        offset, total, digest = params.get("offset"), params.get("total"), params.get("sha256")
        data = _decoded(params.get("data"), "CHECKPOINT_INVALID")
        if not isinstance(total, int) or not 0 < total <= MAX_CHECKPOINT_BYTES or not isinstance(offset, int):
            raise _wrong_checkpoint(f"has a size or an offset that is none of 1 to {MAX_CHECKPOINT_BYTES}")
        with self._lock:
            self._check()
            if offset == 0:
                self._partial.clear()
            if offset != len(self._partial) or offset + len(data) > total or not data:
                raise _wrong_checkpoint(f"goes on at {offset}, not at {len(self._partial)}")
            self._partial += data
            if len(self._partial) < total:
                return
            whole = bytes(self._partial)
            self._partial.clear()
            if hashlib.sha256(whole).hexdigest() != digest:
                raise _wrong_checkpoint("is not what its digest says")
            self._place(whole)

    def _place(self, data: bytes) -> None:
        path = self._rundir.path / "checkpoint.json"
        new = path.with_name("checkpoint.json.new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                _write_all(fd, data)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(new, path)
            _sync(path.parent)
        except OSError as exc:
            raise from_exception(exc, doing="mirroring a checkpoint") from exc

    def checkpoint_size(self) -> int | None:
        try:
            return os.stat(self._rundir.path / "checkpoint.json").st_size
        except FileNotFoundError:
            return None

    def read_checkpoint(self, offset: object) -> str:
        """A piece of the checkpoint from `offset` on, in base64."""
        if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            raise _wrong_checkpoint("is read from an offset that is none")
        try:
            with open(self._rundir.path / "checkpoint.json", "rb") as file:
                file.seek(offset)
                return base64.b64encode(file.read(READ_BYTES)).decode("ascii")
        except FileNotFoundError:
            return ""

    def log(self, params: Mapping[str, Any]) -> None:
        """Append to one of the logs. What is beyond the limit is dropped, and a line says so."""
        name = str(params.get("name"))
        if name not in _LOGS:
            raise _invalid("is no log")
        data = _decoded(params.get("data"), "RECORD_INVALID")
        with self._lock:
            self._check()
            left = self._left[name]
            self._left[name] = left - len(data)
            if left <= 0:
                return
            if len(data) >= left and name == "log":
                data = data[: data.rfind(b"\n", 0, left) + 1] + _CUT
            path = self._folder / _LOGS[name]
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                with contextlib.suppress(OSError):  # a full disk fails the journal, which counts
                    _write_all(fd, data[: left + len(_CUT)])
            finally:
                os.close(fd)

    def _check(self) -> None:
        if self._fenced:
            raise not_live(self._number)


_CUT = b'{"time":0,"level":"warning","event":"log_cut","fields":{"why":"the attempt logged more than is kept"}}\n'


def not_live(number: int) -> Aborted:
    """What an agent is told whose attempt the kernel has given up or ended."""
    return Aborted(
        f"attempt {number} has ended as far as the kernel is concerned; what it does counts no more",
        reason="ATTEMPT_NOT_LIVE",
        retryable=False,
    )


def _decoded(text: object, reason: str) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except ValueError:
        pass  # the same as no text
    raise InvalidArgument("an agent sent something that is not base64", reason=reason)


def _invalid(rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"an agent's record {rule}", reason="RECORD_INVALID", violations=(FieldViolation("records", rule),)
    )


def _wrong_checkpoint(rule: str) -> InvalidArgument:
    return InvalidArgument(f"an agent's checkpoint {rule}", reason="CHECKPOINT_INVALID")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

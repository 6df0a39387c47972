"""The state directory: ours alone, and one daemon's at a time.

    lock            held by flock as long as the daemon lives; a crash lets go of it by itself
    hypersdkd.pid   for people and for the message of a second daemon
    hypersdkd.sock  the unix socket          address   host:port of the TCP listener, when there is one
    token, tls/     see security             state.db  see store             runs/     see engine
    plugins/        see hosting.install                plugins.d/     see hosting.dropfolder
    audit/          see store.auditarchive
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypersdk.errors import Aborted, InvalidArgument

from hypersdk_kernel.security.private import ensure_directory, write_private

SOCKET_NAME = "hypersdkd.sock"
MAX_SOCKET_PATH_BYTES = 107
"""sun_path of unix(7) is 108 bytes with its final zero."""


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths below the directory. Only `claim` makes one, so whoever has one holds the lock."""

    path: Path

    @property
    def socket(self) -> Path:
        return self.path / SOCKET_NAME

    @property
    def address(self) -> Path:
        return self.path / "address"

    @property
    def pid(self) -> Path:
        return self.path / "hypersdkd.pid"

    @property
    def token(self) -> Path:
        return self.path / "token"

    @property
    def database(self) -> Path:
        return self.path / "state.db"

    @property
    def plugins(self) -> Path:
        return self.path / "plugins"

    @property
    def dropped(self) -> Path:
        return self.path / "plugins.d"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def audit(self) -> Path:
        return self.path / "audit"


@contextlib.contextmanager
def claim(path: Path) -> Iterator[StateDir]:
    """Create the directory if need be, check it, hold its lock, and clear what a dead daemon left. Raises
    FailedPrecondition (STATE_DIR_UNSAFE), InvalidArgument (SOCKET_PATH_TOO_LONG), Aborted (STATE_DIR_IN_USE)."""
    state = StateDir(path.absolute())
    _check_socket_path(state.socket)
    ensure_directory(state.path)
    lock = os.open(state.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(state) from None
        _clear(state)
        write_private(state.pid, f"{os.getpid()}\n".encode(), 0o644)
        ensure_directory(state.runs)
        ensure_directory(state.dropped)
        ensure_directory(state.audit)
        try:
            yield state
        finally:
            _clear(state)
    finally:
        os.close(lock)


def _clear(state: StateDir) -> None:
    for file in (state.socket, state.address, state.pid):
        file.unlink(missing_ok=True)


def _check_socket_path(socket: Path) -> None:
    size = len(os.fsencode(socket))
    if size > MAX_SOCKET_PATH_BYTES:
        raise InvalidArgument(
            f"{socket} has {size} bytes, and the path of a unix socket has at most {MAX_SOCKET_PATH_BYTES}; choose a "
            "shorter --state-dir, or a short symbolic link to this one",
            reason="SOCKET_PATH_TOO_LONG",
        )


def _in_use(state: StateDir) -> Aborted:
    try:
        pid = state.pid.read_text().strip()
    except OSError:
        pid = ""
    who = f"the daemon with pid {pid}" if pid else "a daemon that is just starting"
    return Aborted(
        f"{state.path} is in use by {who}; stop it first, or give this one another --state-dir",
        reason="STATE_DIR_IN_USE",
        metadata={"pid": pid, "state_dir": str(state.path)},
    )

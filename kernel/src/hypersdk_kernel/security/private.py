"""Files and folders that belong to us alone.

A file is written under another name with its final mode, synced and renamed, so that nobody ever sees half of one,
nor one with a wider mode for an instant.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from hypersdk.errors import FailedPrecondition

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


def ensure_directory(path: Path) -> None:
    """Create `path` with mode 0700 if it is not there. Raises FailedPrecondition (STATE_DIR_UNSAFE) when it is no
    folder, belongs to someone else, or others may write to it."""
    path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise _unsafe(path, f"belongs to user {found.st_uid}, not to {os.geteuid()}; choose another or chown it")
    if stat.S_IMODE(found.st_mode) & 0o022:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise _unsafe(path, f"has mode {mode}, so others may write to it; run chmod 0700 {path}")


def read_private(path: Path) -> bytes | None:
    """The file's bytes; None when it is not there. Raises FailedPrecondition (STATE_DIR_UNSAFE) when it is a link,
    belongs to someone else or others may read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise _unsafe(path, "can be read by others than its owner; delete it, and the daemon makes a new one")
        return file.read()


def write_private(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Replace the file, durably."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unsafe(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"{path} {why}", reason="STATE_DIR_UNSAFE", metadata={"path": str(path)})

"""Copies of a SQLite state: made beside a living kernel, checked before anybody relies on them.

`copy` reads one snapshot through SQLite's backup API, which writers do not wait for, into a file of its own that needs
no log beside it. A file appears under its final name only when it is whole, checked and on disk.

Not here: PostgreSQL, whose own tools do this better; what else belongs to a state directory (server.statecommands).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from hypersdk.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound

from hypersdk_kernel.store.errors import translate
from hypersdk_kernel.store.schema import check_known

_BUSY_S = 30.0


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database holds."""

    schema: str
    jobs: int
    last_revision: int
    bytes: int


def save(database: Path, target: Path) -> Contents:
    """A copy of `database` as the new file `target`. Raises NotFound (STATE_NOT_FOUND), AlreadyExists (BACKUP_EXISTS),
    DataLoss (STATE_CORRUPT), ResourceExhausted (DISK_FULL), OSError."""
    if not database.is_file():
        raise NotFound(f"there is no database {database}; is --state-dir right?", reason="STATE_NOT_FOUND")
    if target.exists():
        raise _exists(target)
    partial = copy(database, target.parent)
    try:
        found = inspect(partial)
        try:
            os.link(partial, target)  # unlike a rename, never over a file that somebody else made meanwhile
        except FileExistsError:
            raise _exists(target) from None
    finally:
        partial.unlink(missing_ok=True)
    sync_directory(target.parent)
    return found


def copy(source: Path, folder: Path) -> Path:
    """A synced copy of the database `source` under a name of its own in `folder`, for the caller to rename."""
    partial = folder / f".state-{secrets.token_hex(8)}.partial"
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        writing = sqlite3.connect(partial)
        with contextlib.closing(_open(source, "mode=rw")) as reading, contextlib.closing(writing):
            writing.execute("PRAGMA synchronous=OFF")  # one fsync at the end instead
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
        fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except sqlite3.Error as exc:
        partial.unlink(missing_ok=True)
        raise translate(exc) from exc
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def inspect(file: Path) -> Contents:
    """Check a copy through and through. Raises InvalidArgument (BACKUP_INVALID) for what is no database of ours,
    DataLoss (STATE_CORRUPT) for a damaged one, FailedPrecondition (SCHEMA_TOO_NEW)."""
    try:
        with contextlib.closing(_open(file, "immutable=1")) as conn:
            problems = [row[0] for row in conn.execute("PRAGMA integrity_check(5)")]
            if problems != ["ok"]:
                raise DataLoss(
                    f"{file} fails its integrity check: {'; '.join(map(str, problems))[:500]}", reason="STATE_CORRUPT"
                )
            names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {"alembic_version", "jobs", "events"} <= names:
                raise InvalidArgument(f"{file} is a database, but not a kernel's", reason="BACKUP_INVALID")
            (schema,) = conn.execute("SELECT version_num FROM alembic_version").fetchone()
            check_known(str(schema))
            (jobs,) = conn.execute("SELECT count(*) FROM jobs").fetchone()
            (revision,) = conn.execute("SELECT coalesce(max(revision), 0) FROM events").fetchone()
    except sqlite3.Error as exc:
        if "not a database" in str(exc):
            raise InvalidArgument(f"{file} is no SQLite database", reason="BACKUP_INVALID") from exc
        raise translate(exc) from exc
    return Contents(str(schema), jobs, revision, file.stat().st_size)


def put_in_place(partial: Path, database: Path, kept: Path) -> bool:
    """Make `partial` the database; the old one, if there was one, is `kept` from now on. A crash in between leaves the
    old one or the new one, whole. Nobody may have the database open. Whether there was an old one."""
    there = database.exists()
    if there:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it in one file; a damaged one is kept as it is
        log = database.with_name(f"{database.name}-wal")
        if log.exists():
            os.replace(log, kept.with_name(f"{kept.name}-wal"))
        database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
        os.link(database, kept)
    os.replace(partial, database)
    sync_directory(database.parent)
    return there


def sync_directory(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open(file: Path, how: str) -> sqlite3.Connection:
    """A file that is not there is not made. A living database needs `mode=rw` even for reading, since readers enter
    themselves into its shared memory; a copy that nobody writes is `immutable=1` and leaves nothing beside it."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, timeout=_BUSY_S)


def _exists(target: Path) -> AlreadyExists:
    return AlreadyExists(f"{target} exists already; choose another name", reason="BACKUP_EXISTS")

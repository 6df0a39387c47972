"""SQLite in the state directory: WAL, synchronous=FULL, an integrity check at every start.

A write that returned survives a power cut. There is one kernel (the state directory's lock sees to that) and one
writer, so revisions are counted in memory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import sqlalchemy
from hypersdk.errors import DataLoss, HyperError
from sqlalchemy import Connection, event

from hypersdk_kernel.store.backend import Rows, Statement
from hypersdk_kernel.store.errors import read_only

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "mmap_size=268435456")
_WAITS = "hypersdk_waits_s"


class Sqlite:
    """See store.backend."""

    name: Literal["sqlite", "postgresql"] = "sqlite"
    shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = _engine(path)

    @contextlib.contextmanager
    def migrating(self) -> Iterator[None]:
        yield

    def check(self, conn: Connection) -> None:
        problems = conn.exec_driver_sql("PRAGMA quick_check(5)").scalars().all()
        if problems != ["ok"]:
            raise DataLoss(
                f"the kernel's database fails its integrity check: {'; '.join(map(str, problems))[:500]}; "
                "restore it from a backup",
                reason="STATE_CORRUPT",
            )

    def open_writer(self) -> Connection:
        return self.engine.connect().execution_options(hypersdk_writer=True)

    def wait(self, conn: Connection, seconds: float) -> None:
        if seconds != conn.info.get(_WAITS):
            conn.info[_WAITS] = seconds
            conn.connection.cursor().execute(f"PRAGMA busy_timeout={round(seconds * 1000)}")

    def begin(self, conn: Connection, reads: Sequence[Statement]) -> tuple[tuple[int, int] | None, list[Rows]]:
        with contextlib.closing(conn.connection.cursor()) as cursor:
            return None, [_found(cursor, *read) for read in reads]

    def together(self, conn: Connection) -> contextlib.AbstractContextManager[Any]:
        return contextlib.closing(conn.connection.cursor())

    def end(self, cursor: Any, revision: int) -> None:
        """The next start reads the newest revision from the log."""

    def cause(self, failure: HyperError) -> HyperError:
        """A file that was opened for writing and may not be written any more (its file system was remounted read-only)
        is an I/O error to SQLite, as a full disk can be. Asked by access(2): opening and closing the file ourselves
        would drop SQLite's POSIX locks on it."""
        if failure.reason != "DISK_FULL":
            return failure
        log = self.path.with_name(f"{self.path.name}-wal")
        for file in (self.path.parent, self.path, log):
            if file.exists() and not os.access(file, os.W_OK):
                return read_only(f"{file} cannot be written", "see whether its file system is mounted read-only")
        return failure

    def listen(self, poke: Callable[[int], None]) -> Callable[[], None] | None:  # noqa: ARG002 - see Backend
        return None


def _found(cursor: Any, statement: str, parameters: Any) -> Rows:
    cursor.execute(statement, parameters or ())
    found: Rows = cursor.fetchall()
    return found


def _engine(path: Path) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 10.0}, pool_size=8, max_overflow=8
    )

    @event.listens_for(engine, "connect")
    def configure(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # SQLAlchemy's documented way to have real BEGIN and SAVEPOINT with pysqlite
        cursor = raw.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        if not conn.get_execution_options().get("hypersdk_writer"):
            conn.exec_driver_sql("BEGIN")
            return
        raw: Any = conn.connection.driver_connection
        raw.execute("BEGIN IMMEDIATE")  # in the hot path: exec_driver_sql takes ten times as long

    return engine

"""PostgreSQL, shared by any number of kernels.

Every writing transaction first locks the one row of `cluster`. So transactions of all kernels follow one another, a
revision taken later is committed later, and what a reader sees of the log never has a hole that is filled afterwards:
Watch relies on that. The same row holds the leader's epoch, so a leader that was replaced is found out inside the
transaction. A kernel that is stopped in the middle of one loses its session after IDLE_S, and with it the lock.

The password never stands in the URL, whose place is a command line or a file: it comes from `database_password_file`,
PGPASSFILE or `~/.pgpass`.

Not here: who leads (leader).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import sqlalchemy
import structlog
from hypersdk.errors import FailedPrecondition, FieldViolation, HyperError, InvalidArgument
from sqlalchemy import URL, Connection
from sqlalchemy.exc import ArgumentError

from hypersdk_kernel.store.backend import Rows, Statement

log = structlog.get_logger(__name__)

IDLE_S = 5
"""A session that does nothing for so long inside a transaction is ended by the server, seconds."""
POLL_S = 1.0
"""How often other kernels' events are looked for when no notification comes, seconds."""
CHANNEL = "hypersdk_events"
MIGRATION_KEY = 0x68797065_00000001
LEADER_KEY = 0x68797065_00000002
"""Advisory locks: `hype` and a number of ours."""

_CONNECT_ARGS: dict[str, Any] = {
    "connect_timeout": 5, "keepalives": 1, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3,
    "tcp_user_timeout": 5000, "application_name": "hypersdkd",
}  # fmt: skip
# A plan that is kept was made when the table was empty, and reads it from end to end ever after.
_SESSION = {
    "idle_in_transaction_session_timeout": f"{IDLE_S}s", "statement_timeout": "60s", "lock_timeout": "15s",
    "tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3", "synchronous_commit": "on",
    "plan_cache_mode": "force_custom_plan",
}  # fmt: skip


def parse_url(text: str) -> URL:
    """Raises InvalidArgument (CONFIG_INVALID) for what is no PostgreSQL URL, and for one with a password in it."""
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise _invalid("must be empty, or postgresql://user@host:port/name") from None
    if url.drivername not in {"postgresql", "postgres"}:
        raise _invalid("must begin with postgresql://, or be empty for SQLite in the state directory")
    if url.password is not None or "password" in url.query:
        raise _invalid("must not hold a password; name a file with it in database_password_file, or use PGPASSFILE")
    if not url.database:
        raise _invalid("must name the database: postgresql://user@host:port/name")
    return url.set(drivername="postgresql+psycopg")


class Postgresql:
    """See store.backend."""

    name: Literal["sqlite", "postgresql"] = "postgresql"
    shared = True

    def __init__(self, url: str, password: str | None = None) -> None:
        parsed = parse_url(url)
        try:
            import psycopg
        except ImportError as exc:
            raise FailedPrecondition(
                "PostgreSQL needs psycopg, which is not installed; install hypersdk-kernel[postgresql]",
                reason="STORE_DRIVER_MISSING",
            ) from exc
        self._psycopg = psycopg
        options = " ".join(f"-c {key}={value}" for key, value in _SESSION.items())
        theirs = parsed.query.get("options")
        self._arguments = {**_CONNECT_ARGS, "options": f"{options} {theirs}" if theirs else options}
        if password is not None:
            self._arguments["password"] = password
        self._url = parsed.difference_update_query(["options"])
        self.engine = sqlalchemy.create_engine(
            self._url, connect_args=self._arguments, pool_size=8, max_overflow=8, pool_pre_ping=True,
            isolation_level="REPEATABLE READ",
        )  # fmt: skip

    @contextlib.contextmanager
    def migrating(self) -> Iterator[None]:
        with self.connect() as conn:
            conn.execute("SET statement_timeout = 0")  # another kernel's migration may take long
            conn.execute("SET lock_timeout = 0")
            conn.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_KEY,))
            yield

    def check(self, conn: Connection) -> None:
        encoding = conn.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise FailedPrecondition(
                f"the PostgreSQL database has the encoding {encoding}; create one with ENCODING 'UTF8'",
                reason="STORE_REFUSED",
            )

    def open_writer(self) -> Connection:
        """In autocommit: `begin` and `end` say BEGIN and COMMIT themselves, together with what is beside them."""
        return self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def wait(self, conn: Connection, seconds: float) -> None:
        """The server's lock_timeout sees to that."""

    def begin(self, conn: Connection, reads: Sequence[Statement]) -> tuple[tuple[int, int] | None, list[Rows]]:
        with self.together(conn) as cursor:
            cursor.execute(_BEGIN)
            cursor.execute(_LOCK)
            for read in reads:
                cursor.execute(*read)
        (_, [(last_revision, epoch)], *found) = cursor.answers
        return (last_revision, epoch), found

    @contextlib.contextmanager
    def together(self, conn: Connection) -> Iterator[Any]:
        raw: Any = conn.connection.driver_connection
        with self._psycopg.ClientCursor(raw) as cursor:
            together = _Together(cursor)
            yield together
            together.send()

    def end(self, cursor: Any, revision: int) -> None:
        cursor.execute(_ADVANCE, {"revision": revision})
        cursor.execute(_NOTIFY, {"revision": str(revision)})
        cursor.execute(_COMMIT)

    def cause(self, failure: HyperError) -> HyperError:
        return failure

    def listen(self, poke: Callable[[int], None]) -> Callable[[], None] | None:
        stopped = threading.Event()
        woken, waker = socket.socketpair()
        thread = threading.Thread(target=self._listen, args=(poke, stopped, woken), name="store-listen", daemon=True)
        thread.start()

        def stop() -> None:
            stopped.set()
            waker.close()  # which ends its wait for the next notice
            thread.join()
            woken.close()

        return stop

    def connect(self) -> Any:
        """A psycopg connection of the caller's own, in autocommit, outside the pool."""
        dsn = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return self._psycopg.connect(dsn, autocommit=True, **self._arguments)

    def _listen(self, poke: Callable[[int], None], stopped: threading.Event, woken: socket.socket) -> None:
        while not stopped.is_set():
            try:
                with self.connect() as conn, selectors.DefaultSelector() as waiting:
                    conn.execute(f"LISTEN {CHANNEL}")
                    waiting.register(conn, selectors.EVENT_READ)
                    waiting.register(woken, selectors.EVENT_READ)
                    due = 0.0
                    while not stopped.is_set():
                        now = time.monotonic()
                        if now >= due:
                            poke(0)
                            due = now + POLL_S
                        waiting.select(due - now)
                        for told in conn.notifies(timeout=0):
                            poke(int(told.payload) if told.payload.isdecimal() else 0)
            except self._psycopg.Error as exc:
                log.warning("store_listen_failed", error=str(exc).strip())
                stopped.wait(POLL_S)


_BEGIN, _COMMIT = "BEGIN ISOLATION LEVEL READ COMMITTED", "COMMIT"
_LOCK = "SELECT last_revision, epoch FROM cluster WHERE id = 1 FOR UPDATE"
_ADVANCE = "UPDATE cluster SET last_revision = %(revision)s WHERE id = 1"
_NOTIFY = f"SELECT pg_notify('{CHANNEL}', %(revision)s)"


class _Together:
    """Statements that are sent as one message; then `answers` has the rows of each."""

    def __init__(self, cursor: Any) -> None:
        self.answers: list[Rows] = []
        self._cursor = cursor
        self._statements: list[str] = []

    def execute(self, statement: str, parameters: Any = None) -> None:
        self._statements.append(self._cursor.mogrify(statement, parameters))

    def send(self) -> None:
        if not self._statements:
            return
        cursor = self._cursor
        cursor.execute(";\n".join(self._statements))
        more = True
        while more:
            self.answers.append(cursor.fetchall() if cursor.description else [])
            more = cursor.nextset()


def _invalid(rule: str) -> InvalidArgument:
    return InvalidArgument(
        f"wrong configuration: database: {rule}",
        reason="CONFIG_INVALID",
        violations=(FieldViolation("database", rule),),
    )

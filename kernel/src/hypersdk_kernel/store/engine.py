"""Store: the database opened, migrated, checked; one writer thread with group commit; readers beside it.

Its life: `open`, then any number of `write`, `read`, `read_now`, then `close`.

SQLite runs in WAL mode with synchronous=FULL: a write that returned survives a power cut. An fsync costs 1–10 ms
here and a
transaction 0.1, so the writer takes whatever has queued up while the last commit was syncing and commits it as one
(group
commit); each function runs in a savepoint of its own, so one that raises takes only itself back. When the commit
itself fails
(disk full), every function of the group fails with it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy
from hypersdk.errors import DataLoss, FailedPrecondition, HyperError, Internal, ResourceExhausted, Unavailable
from sqlalchemy import Connection, event, insert
from sqlalchemy.exc import DatabaseError, OperationalError

from hypersdk_kernel.model.audit import OK, AuditNote
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store import audit, codec
from hypersdk_kernel.store import events as event_rows
from hypersdk_kernel.store.schema import prepare
from hypersdk_kernel.store.tables import REQUESTS_KEPT_S, events, requests

T = TypeVar("T")

_GROUP = 512
"""Functions in one commit at most; bounds the time a reader of its own write waits behind others."""
_EVENTS_KEPT = 200_000
_QUEUE_LIMIT = 20_000


class Tx:
    """One function's view of the transaction it runs in. `now`: wall time of the group."""

    def __init__(self, conn: Connection, now: float, store: Store) -> None:
        self.conn = conn
        self.now = now
        self.emitted: list[Event] = []
        self.notes: list[AuditNote] = []
        self._store = store

    def emit(
        self, type_: str, subject: str, actor: str, payload: dict[str, Any], *, revision: int | None = None
    ) -> Event:
        """Append an event to the log, in this transaction. `revision`: one from `new_revision`."""
        revision = self.new_revision() if revision is None else revision
        happened = Event(revision, self.now, type_, subject, actor, payload)
        self.conn.execute(
            insert(events).values(
                revision=happened.revision, time=happened.time, type=type_, subject=subject, actor=actor,
                payload=codec.dumps(payload),
            )
        )  # fmt: skip
        self.emitted.append(happened)
        return happened

    def audit(
        self, action: str, subject: str, actor: str, outcome: str = OK, details: dict[str, Any] | None = None
    ) -> None:
        """Append to the audit trail, in this transaction."""
        self.notes.append(AuditNote(actor, action, subject, outcome, details or {}))

    def new_revision(self) -> int:
        """The next revision. A function that fails leaves a gap, which is harmless: only order matters."""
        return self._store.take_revision()


class _Work:
    __slots__ = ("call", "emitted", "error", "fn", "future", "notes", "result", "speaks")

    def __init__(self, fn: Callable[[Tx], Any], future: asyncio.Future[Any]) -> None:
        self.fn = fn
        self.future = future
        self.call = audit.current.get()
        self.notes: list[AuditNote] = []
        self.speaks = False
        """It is the write that appends the call's row."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.emitted: list[Event] = []


class Store:
    """The kernel's database."""

    def __init__(self, engine: sqlalchemy.Engine, clock: Clock, schema_revision: str, last_revision: int) -> None:
        self.on_commit: list[Callable[[list[Event]], None]] = []
        self.on_group: Callable[[int, float], None] | None = None
        """Told of each group commit in the writer thread: how many writes, and seconds."""
        self.schema_revision = schema_revision
        self.last_revision = last_revision
        """Of the newest event that is durable."""
        self._engine = engine
        self._clock = clock
        self._taken = last_revision
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="store-read")
        self._near: Connection | None = None
        self._closed = False
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, clock: Clock) -> Store:
        """Open or create the SQLite database at `path`, migrate it and check it. Raises DataLoss (STATE_CORRUPT),
        FailedPrecondition (SCHEMA_TOO_NEW), ResourceExhausted (DISK_FULL)."""
        engine = _sqlite(path)
        try:
            schema_revision, last = await asyncio.to_thread(_prepare, engine)
        except DatabaseError as exc:
            engine.dispose()
            raise translate(exc) from exc
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, clock, schema_revision, last)

    async def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in the writer thread; return its result when it is durable. An exception of `fn` undoes `fn`
        alone.
        Raises ResourceExhausted (DISK_FULL; STORE_OVERLOADED), FailedPrecondition (STORE_READ_ONLY, STORE_CLOSED)."""
        if self._closed:
            raise FailedPrecondition("the store is closed; the kernel is stopping", reason="STORE_CLOSED")
        if self._queue.qsize() > _QUEUE_LIMIT:
            raise ResourceExhausted(
                "too many writes are waiting for the disk; try again", reason="STORE_OVERLOADED", retry_after_s=1.0
            )
        work = _Work(fn, self._loop.create_future())
        self._queue.put(work)
        result: T = await asyncio.shield(work.future)
        return result

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a reader connection in a thread: lists and scans."""
        return await self._loop.run_in_executor(self._readers, self._read, fn)

    def read_now(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on the loop itself: point reads only."""
        if self._near is None:
            self._near = self._engine.connect()
        try:
            with self._near.begin():
                return fn(self._near)
        except DatabaseError as exc:
            raise translate(exc) from exc

    def take_revision(self) -> int:
        """Writer thread only."""
        self._taken += 1
        return self._taken

    async def close(self) -> None:
        """Commit what is queued, then stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)
        if self._near is not None:
            self._near.close()
        self._engine.dispose()

    def _read(self, fn: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as conn, conn.begin():
                return fn(conn)
        except DatabaseError as exc:
            raise translate(exc) from exc

    def _write_loop(self) -> None:
        conn = self._engine.connect().execution_options(hypersdk_writer=True)
        running = True
        while running:
            group: list[_Work] = []
            item = self._queue.get()
            while item is not None:
                group.append(item)
                if len(group) >= _GROUP or self._queue.empty():
                    break
                item = self._queue.get()
            running = item is not None
            if group:
                self._commit(conn, group)
        conn.close()

    def _commit(self, conn: Connection, group: list[_Work]) -> None:
        began = time.perf_counter()
        try:
            with conn.begin():
                for work in group:
                    self._run(conn, work)
                notes = [note for work in group for note in work.notes]
                if notes:
                    audit.append(conn, self._clock.now(), notes)
                self._prune(conn, group)
        except Exception as exc:  # noqa: BLE001 - whatever it was, nothing of the group is durable, and each waiter must hear of it
            failure = translate(exc)
            for work in group:
                work.error = work.error or failure
                work.emitted = []
                if work.call is not None and work.speaks:
                    work.call.written = False
        if self.on_group is not None:
            self.on_group(len(group), time.perf_counter() - began)
        self._loop.call_soon_threadsafe(self._settle, group)

    def _run(self, conn: Connection, work: _Work) -> None:
        tx = Tx(conn, self._clock.now(), self)
        try:
            with conn.begin_nested():
                work.result = work.fn(tx)
            work.emitted, work.notes = tx.emitted, tx.notes
            if work.call is not None and not work.call.written and not work.call.over:
                work.call.written = work.speaks = True
                work.notes.append(work.call.note([(e.type, e.subject) for e in tx.emitted]))
        except OperationalError:
            raise  # the disk, not the function: fails the group
        except Exception as exc:  # noqa: BLE001 - handed to the one who waits for it
            work.error = translate(exc) if isinstance(exc, DatabaseError) else exc

    def _prune(self, conn: Connection, group: list[_Work]) -> None:
        """Once in a thousand events, drop those beyond what is kept, and request ids past their day."""
        revisions = [e.revision for work in group for e in work.emitted]
        if revisions and revisions[0] // 1000 != revisions[-1] // 1000:
            conn.execute(events.delete().where(events.c.revision <= revisions[-1] - _EVENTS_KEPT))
            conn.execute(requests.delete().where(requests.c.create_time < self._clock.now() - REQUESTS_KEPT_S))

    def _settle(self, group: list[_Work]) -> None:
        """On the loop: tell of the events, then wake the waiters, so that who has its answer has also had its
        event."""
        happened = [e for work in group for e in work.emitted]
        if happened:
            self.last_revision = max(self.last_revision, happened[-1].revision)
            for listener in self.on_commit:
                listener(happened)
        for work in group:
            if work.future.cancelled():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)


def translate(exc: BaseException) -> HyperError:
    """A database error as one of ours."""
    if isinstance(exc, HyperError):
        return exc
    text = _said(exc)
    if "disk is full" in text or "disk I/O error" in text:
        return ResourceExhausted(
            f"the kernel's database cannot be written ({text}); free space on its file system",
            reason="DISK_FULL",
            retry_after_s=5.0,
        )
    if "readonly database" in text:
        return FailedPrecondition(
            f"the kernel's database is read-only ({text}); check its permissions", reason="STORE_READ_ONLY"
        )
    if "malformed" in text or "not a database" in text:
        return DataLoss(f"the kernel's database is damaged ({text}); restore it from a backup", reason="STATE_CORRUPT")
    if "locked" in text or "busy" in text:
        return Unavailable("the kernel's database is held by another process", reason="STORE_BUSY")
    return Internal(f"store: {type(exc).__name__}: {text}", reason="STORE_FAILED")


def _said(exc: BaseException) -> str:
    """The database's words. SQLite rolls a whole transaction back when the disk is full, so the rollback of our
    savepoint
    fails too, and its error hides the first one, which is what counts."""
    first: BaseException = exc
    while first.__context__ is not None:
        first = first.__context__
    return str(getattr(first, "orig", first))


def _sqlite(path: Path) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False, "timeout": 10.0}, pool_size=8, max_overflow=8
    )

    @event.listens_for(engine, "connect")
    def configure(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # SQLAlchemy's documented way to have real BEGIN and SAVEPOINT with pysqlite
        cursor = raw.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "mmap_size=268435456",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get("hypersdk_writer") else "BEGIN")

    return engine


def _prepare(engine: sqlalchemy.Engine) -> tuple[str, int]:
    schema_revision = prepare(engine)
    with engine.connect() as conn, conn.begin():
        problems = conn.exec_driver_sql("PRAGMA quick_check(5)").scalars().all()
        if problems != ["ok"]:
            raise DataLoss(
                f"the kernel's database fails its integrity check: {'; '.join(map(str, problems))[:500]}; "
                "restore it from a backup",
                reason="STATE_CORRUPT",
            )
        return schema_revision, event_rows.bounds(conn)[1]

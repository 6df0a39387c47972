"""Store: the database opened, migrated, checked; one writer thread with group commit; readers beside it.

Its life: `open`, then any number of `write`, `read`, `near`, then `close`.

An fsync costs 1–10 ms and a transaction 0.1, so whatever has come up while the last commit was syncing is committed
as one (group commit); each function is undone alone when it raises. When the commit itself fails (disk full,
PostgreSQL gone), every function of the group fails with it, and the next group starts anew.

Two threads that share the interpreter slow each other down at every statement. So a group of brief functions is
filled into its transaction on the loop where a statement takes microseconds (SQLite), and the writer only makes it
durable. The writer's connection belongs to whoever has the group: one at a time, in the order of the queue.

Other kernels' events (PostgreSQL) are read by the same thread, either on their own or at the head of its next group,
so that listeners hear every event once and in the order of revisions.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import structlog
from hypersdk.errors import FailedPrecondition, ResourceExhausted
from sqlalchemy import Connection, Table, Transaction
from sqlalchemy.exc import DatabaseError

from hypersdk_kernel.model.audit import AuditNote
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store import audit
from hypersdk_kernel.store import events as event_rows
from hypersdk_kernel.store.backend import Backend
from hypersdk_kernel.store.errors import is_database, is_operational, translate
from hypersdk_kernel.store.schema import prepare
from hypersdk_kernel.store.sqlite import Sqlite
from hypersdk_kernel.store.statements import Statements
from hypersdk_kernel.store.tables import REQUESTS_KEPT_S, events, requests
from hypersdk_kernel.store.transaction import Group, Key, Tx

__all__ = ["Store", "Tx", "translate"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

_GROUP = 512
"""Functions in one commit at most; bounds the time a reader of its own write waits behind others."""
_EVENTS_KEPT = 200_000
_PRUNE_EVERY = 1000
_QUEUE_LIMIT = 20_000
_GATHER_S = 0.004
"""For so long a group waits at most for those who have written at the same time of late, seconds."""
_FADING = 0.9
"""What is left of their number after a group in which there were fewer."""
_PATIENCE_S = 10.0
"""For so long the writer waits for another process (a backup) that has the database locked."""
_FOREIGN_PAGE = 1000
_CURRENT_S = 3.0
"""For so long after the last look at other kernels' events what is held in memory may answer, seconds."""


class _Work:
    __slots__ = ("brief", "call", "emitted", "epoch", "error", "fn", "future", "keys", "notes", "result", "speaks")

    def __init__(
        self, fn: Callable[[Tx], Any], future: asyncio.Future[Any], keys: Iterable[Key], epoch: int | None, brief: bool
    ) -> None:
        self.fn = fn
        self.future = future
        self.keys = keys
        self.epoch = epoch
        self.brief = brief
        self.call = audit.current.get()
        self.notes: list[AuditNote] = []
        self.speaks = False
        """It is the write that appends the call's row."""
        self.result: Any = None
        self.error: BaseException | None = None
        self.emitted: list[Event] = []


@dataclass(slots=True)
class _Filling:
    """A group in its transaction, which is not committed yet. Times by perf_counter."""

    group: list[_Work]
    began: float
    transaction: Transaction | None = None
    revision: int = 0
    foreign: list[Event] = field(default_factory=list)


class _Look:
    """In the queue: other kernels may have written, up to `revision` if that is known."""

    __slots__ = ("revision",)

    def __init__(self, revision: int) -> None:
        self.revision = revision


class LeaderStore:
    """The store as only a leader uses it: every write is refused once another leads. What may run on one kernel only
    (the dispatcher, a scheduler, delivery) is given this one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.read = store.read
        self.near = store.near

    @property
    def last_revision(self) -> int:
        return self._store.last_revision

    async def write(self, fn: Callable[[Tx], T], *, keys: Iterable[Key] = ()) -> T:
        """As Store.write; raises FailedPrecondition (NOT_LEADER) too."""
        return await self._store.write(fn, keys=keys, leading=True)


class Store:
    """The kernel's database.

    on_commit   called on the loop with events that became durable, ours and other kernels', in order of revision
    on_foreign  called on the loop, after on_commit, with those of them that other kernels wrote
    epoch       as whose leader we write; None while another leads. Without other kernels it is not looked at
    """

    def __init__(self, backend: Backend, clock: Clock, schema_revision: str, last_revision: int) -> None:
        self.on_commit: list[Callable[[list[Event]], None]] = []
        self.on_foreign: list[Callable[[list[Event]], None]] = []
        self.on_group: Callable[[int, float], None] | None = None
        """Told of each group commit in the writer thread: how many writes, and seconds."""
        self.schema_revision = schema_revision
        self.last_revision = last_revision
        """Of the newest event that is durable and that listeners have heard."""
        self.epoch: int | None = None
        self.backend = backend
        self.leading = LeaderStore(self)
        self._engine = backend.engine
        self._clock = clock
        self._statements = Statements(backend.engine)
        self._seen = last_revision
        self._taken = last_revision
        self._pruned = last_revision // _PRUNE_EVERY
        self._looked = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Work] = []
        self._turning = False
        self._timer: asyncio.TimerHandle | None = None
        self._peak = 1.0
        """How many have been waiting at once of late."""
        self._handed = 0
        """Functions that the writer has, to run or only to commit."""
        self._filled = False
        """They are run already, and their transaction waits to be committed."""
        self._queue: queue.SimpleQueue[list[_Work] | _Filling | _Look | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="store-read")
        self._near: Connection | None = None
        self._closed = False
        self._conn: Connection | None = None
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()
        self._stop_listening = backend.listen(lambda revision: self._queue.put(_Look(revision)))

    @classmethod
    async def open(cls, where: Path | Backend, clock: Clock) -> Store:
        """Open or create the database, migrate it and check it; a path is SQLite's. Raises DataLoss (STATE_CORRUPT),
        FailedPrecondition (SCHEMA_TOO_NEW, STORE_REFUSED), ResourceExhausted (DISK_FULL), Unavailable
        (STORE_UNAVAILABLE)."""
        backend = Sqlite(where) if isinstance(where, Path) else where
        try:
            schema_revision, last = await asyncio.to_thread(_prepare, backend)
        except Exception as exc:
            backend.engine.dispose()
            if is_database(exc):
                raise translate(exc) from exc
            raise
        return cls(backend, clock, schema_revision, last)

    @property
    def shared(self) -> bool:
        """May other kernels write too?"""
        return self.backend.shared

    @property
    def current(self) -> bool:
        """Have listeners heard all that was committed a few seconds ago, by whomever?"""
        return not self.shared or time.monotonic() - self._looked < _CURRENT_S

    async def write(
        self, fn: Callable[[Tx], T], *, keys: Iterable[Key] = (), leading: bool = False, brief: bool = False
    ) -> T:
        """Run `fn` in a transaction; return its result when it is durable. An exception of `fn` undoes `fn` alone.
        `keys`: what it is going to ask `Tx.find` for, fetched for a whole group at once. `leading`: only as long as
        we lead. `brief`: it adds a few rows and no more, so it may run on the loop; else in the writer's thread.
        Raises ResourceExhausted (DISK_FULL; STORE_OVERLOADED), FailedPrecondition (STORE_READ_ONLY,
        STORE_CLOSED, NOT_LEADER), Unavailable (STORE_UNAVAILABLE, STORE_BUSY)."""
        if self._closed:
            raise FailedPrecondition("the store is closed; the kernel is stopping", reason="STORE_CLOSED")
        if len(self._gathered) + self._handed > _QUEUE_LIMIT:
            raise ResourceExhausted(
                "too many writes are waiting for the disk; try again", reason="STORE_OVERLOADED", retry_after_s=1.0
            )
        epoch = None
        if leading and self.shared:
            epoch = self.epoch
            if epoch is None:
                raise _not_leader()
        work = _Work(fn, self._loop.create_future(), keys, epoch, brief)
        self._gathered.append(work)
        if brief:
            self._peak = max(self._peak, len(self._gathered) + self._handed)
        self._consider()
        result: T = await work.future  # a waiter that is cancelled cancels this future, which nothing else hangs on
        return result

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on a reader connection in a thread: lists and scans."""
        return await self._loop.run_in_executor(self._readers, self._read, fn)

    async def near(self, fn: Callable[[Connection], T]) -> T:
        """A point read: on the loop itself where that is a matter of microseconds (SQLite), else as `read`."""
        return await self.read(fn) if self.shared else self.read_now(fn)

    def read_now(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in this thread. Not where a server would hold it up, and all that the loop does with it: `near`."""
        assert not self.shared
        if self._near is None:
            self._near = self._engine.connect()
        try:
            with self._near.begin():
                return fn(self._near)
        except DatabaseError as exc:
            raise translate(exc) from exc

    async def close(self) -> None:
        """Commit what is queued, then stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._stop_listening is not None:
            await asyncio.to_thread(self._stop_listening)
        self._hand_over(self._gathered)
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

    def _consider(self) -> None:
        """Is it time for a group? A commit costs what ten functions cost, so it waits, if not for long, until as many
        have come as have been seen waiting at once. Who is alone waits for nobody, nor does what is not brief: the
        engine's own changes, on which others wait."""
        if self._turning or self._filled or not self._gathered:
            return  # when what is filled is durable, it is the turn of what has been gathered meanwhile
        if len(self._gathered) >= self._peak or not self._gathered[-1].brief:
            self._due()
        elif self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._due)

    def _due(self) -> None:
        """A group, when everybody has had their turn who is ready now: what they write goes along."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """On the loop: what was gathered, into its transaction here or to the writer."""
        self._turning = False
        if not self._gathered or self._filled:
            return
        group = self._gathered
        brief = not self.shared and len(group) <= _GROUP and all(work.brief for work in group)
        if self._handed or not brief or self._taken // _PRUNE_EVERY != self._pruned:
            self._hand_over(group)
            return
        filling = _Filling(group, time.perf_counter())
        try:
            filling.transaction = self._begin(0.0)
        except Exception:  # noqa: BLE001 - another process has locked the database: the writer can wait for it
            self._hand_over(group)
            return
        try:
            self._run_all(filling, prune=False)
        except Exception as exc:  # noqa: BLE001 - as in _finish
            self._failed(filling, exc)
        self._gathered = []
        self._handed += len(group)
        self._filled = True
        self._queue.put(filling)

    def _hand_over(self, group: list[_Work]) -> None:
        self._gathered = []
        self._handed += len(group)
        for start in range(0, len(group), _GROUP):
            self._queue.put(group[start : start + _GROUP])

    def _write_loop(self) -> None:
        item = self._queue.get()
        while item is not None:
            after: list[_Work] | _Filling | _Look | Literal[False] | None = False
            if isinstance(item, _Look):
                if item.revision == 0 or item.revision > self._seen:
                    self._look()
            else:
                if isinstance(item, list):
                    after = self._join(item)
                    item = self._fill(item)
                self._finish(item)
                self._loop.call_soon_threadsafe(self._settled, item)
            item = self._queue.get() if after is False else after
        self._disconnect()

    def _join(self, group: list[_Work]) -> list[_Work] | _Filling | Literal[False] | None:
        """Add what has queued up behind `group` to it. The first thing that does not belong there, False when there is
        none. Looks are dropped: filling the group will look."""
        while len(group) < _GROUP and not self._queue.empty():
            item = self._queue.get()
            if isinstance(item, list):
                group += item
            elif not isinstance(item, _Look):
                return item
        return False

    def _fill(self, group: list[_Work]) -> _Filling:
        """Run the functions in a transaction. Without one in the answer they have failed."""
        filling = _Filling(group, time.perf_counter())
        try:
            filling.transaction = self._begin(_PATIENCE_S)
            self._run_all(filling, prune=True)
        except Exception as exc:  # noqa: BLE001 - as in _finish
            self._failed(filling, exc)
        return filling

    def _begin(self, patience_s: float) -> Transaction:
        conn = self._connect()
        self.backend.wait(conn, patience_s)
        return conn.begin()

    def _run_all(self, filling: _Filling, *, prune: bool) -> None:
        group, conn = filling.group, self._connect()
        wanted = self._wanted(group)
        reads = [self._statements.lookup(table, keys) for table, keys in wanted.items()]
        at, (head, *found) = self.backend.begin(conn, [audit.reading_head(self._statements), *reads])
        started = self._taken if at is None else at[0]
        if started > self._seen and self.shared:
            filling.foreign = _foreign(conn, self._seen, started)
        tx = Group(conn, self._statements, started, None if at is None else at[1])
        for (table, keys), rows in zip(wanted.items(), found, strict=True):
            tx.learn(table, keys, rows)
        for work in group:
            self._run(tx, work)
        notes = [note for work in group for note in work.notes]
        if notes:
            audit.append(tx, self._clock.now(), notes, head[0])
        if prune:
            self._prune(tx)
        with self.backend.together(conn) as cursor:
            tx.flush(cursor=cursor)
            if tx.revision > started:
                self.backend.end(cursor, tx.revision)
        tx.cursor.close()
        filling.revision = tx.revision

    def _wanted(self, group: list[_Work]) -> dict[Table, list[str]]:
        """What the functions are going to look up by key, where that is cheaper at once."""
        wanted: dict[Table, list[str]] = {}
        if len(group) > 1 or self.shared:
            for table, key in dict.fromkeys(key for work in group for key in work.keys):
                wanted.setdefault(table, []).append(key)
        return wanted

    def _finish(self, filling: _Filling) -> None:
        """Make it durable."""
        try:
            if filling.transaction is not None:
                filling.transaction.commit()
                self._seen = self._taken = filling.revision
                self._looked = time.monotonic()
        except Exception as exc:  # noqa: BLE001 - whatever it was, nothing of the group is durable, and each waiter must hear of it
            self._failed(filling, exc)
        if self.on_group is not None:
            self.on_group(len(filling.group), time.perf_counter() - filling.began)

    def _failed(self, filling: _Filling, exc: Exception) -> None:
        failure = self.backend.cause(translate(exc))
        transaction, filling.transaction = filling.transaction, None
        filling.foreign = []
        for work in filling.group:
            work.error = work.error or failure
            work.emitted = []
            if work.call is not None and work.speaks:
                work.call.written = False
        try:
            if transaction is not None:
                transaction.rollback()
        except Exception as exc:  # noqa: BLE001 - what failed before is what the waiters hear of
            log.info("store_rollback_failed", error=str(exc))
            self._disconnect()
        self._after_failure()

    def _run(self, group: Group, work: _Work) -> None:
        tx = Tx(group, self._clock.now())
        try:
            if work.epoch is not None and work.epoch != group.epoch:
                raise _not_leader()
            work.result = work.fn(tx)
            tx.keep()
            work.emitted, work.notes = tx.emitted, tx.notes
            if work.call is not None and not work.call.written and not work.call.over:
                work.call.written = work.speaks = True
                work.notes.append(work.call.note([(e.type, e.subject) for e in tx.emitted]))
        except Exception as exc:
            if is_operational(exc) or (is_database(exc) and not tx.isolated):
                raise  # the disk or the connection, not the function: fails the group
            tx.undo()
            work.error = translate(exc) if is_database(exc) else exc

    def _prune(self, group: Group) -> None:
        """Once in a thousand events, drop those beyond what is kept, and request ids past their day. The leader does
        it for all."""
        if group.revision // _PRUNE_EVERY == self._pruned or (self.shared and group.epoch != self.epoch):
            return
        self._pruned = group.revision // _PRUNE_EVERY
        group.conn.execute(events.delete().where(events.c.revision <= group.revision - _EVENTS_KEPT))
        group.conn.execute(requests.delete().where(requests.c.create_time < self._clock.now() - REQUESTS_KEPT_S))

    def _look(self) -> None:
        """Hear what other kernels wrote."""
        try:
            conn = self._connect()
            more = True
            while more:
                with conn.begin():
                    found = event_rows.page(conn, self._seen, _FOREIGN_PAGE)
                if found:
                    self._seen = self._taken = found[-1].revision
                    self._loop.call_soon_threadsafe(self._settle, [], found)
                more = len(found) == _FOREIGN_PAGE
            self._looked = time.monotonic()
        except Exception as exc:  # noqa: BLE001 - the next look, a second later, does it again
            log.warning("store_look_failed", error=str(translate(exc)))
            self._after_failure()

    def _connect(self) -> Connection:
        if self._conn is None:
            self._conn = self.backend.open_writer()
        return self._conn

    def _after_failure(self) -> None:
        """A connection to a server may be broken, and says so only when it is used."""
        if self.shared:
            self._disconnect()

    def _disconnect(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            try:
                if self.shared:
                    conn.invalidate()
                conn.close()
            except Exception as exc:  # noqa: BLE001 - it is broken, which is why we let go of it
                log.info("store_disconnect_failed", error=str(exc))

    def _settled(self, filling: _Filling) -> None:
        """On the loop: the writer is done with it."""
        self._handed -= len(filling.group)
        self._filled = False
        self._settle(filling.group, filling.foreign)
        self._peak = max(_FADING * self._peak, len(self._gathered))
        self._consider()

    def _settle(self, group: list[_Work], foreign: list[Event]) -> None:
        """On the loop: tell of the events, then wake the waiters, so that who has its answer has also had its
        event."""
        happened = foreign + [e for work in group for e in work.emitted]
        if happened:
            self.last_revision = max(self.last_revision, happened[-1].revision)
            _tell(self.on_commit, happened)
        if foreign:
            _tell(self.on_foreign, foreign)
        for work in group:
            if work.future.cancelled():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)


def _tell(listeners: Iterable[Callable[[list[Event]], None]], happened: list[Event]) -> None:
    """One listener's defect costs neither the others their news nor the waiters their answers."""
    for listener in listeners:
        try:
            listener(happened)
        except Exception:
            log.exception("store_listener_failed", listener=getattr(listener, "__qualname__", repr(listener)))


def _foreign(conn: Connection, after: int, until: int) -> list[Event]:
    found: list[Event] = []
    while after < until:
        page = event_rows.page(conn, after, _FOREIGN_PAGE)
        found += page
        if len(page) < _FOREIGN_PAGE:
            break
        after = page[-1].revision
    return found


def _not_leader() -> FailedPrecondition:
    return FailedPrecondition("another kernel leads now; this one must not do that", reason="NOT_LEADER")


def _prepare(backend: Backend) -> tuple[str, int]:
    schema_revision = prepare(backend)
    with backend.engine.connect() as conn, conn.begin():
        backend.check(conn)
        return schema_revision, event_rows.bounds(conn)[1]

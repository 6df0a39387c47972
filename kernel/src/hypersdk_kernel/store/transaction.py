"""One writing transaction for a group of functions, and each function's view of it.

A function that only adds rows (`insert`, `emit`, `find`) costs no statement of its own: its rows are kept here and
dropped again when it raises. One that asks for `conn` gets what was gathered so far written first and a savepoint for
itself, and may run any SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table

from hypersdk_kernel.model.audit import OK, AuditNote
from hypersdk_kernel.model.event import Event
from hypersdk_kernel.store import codec
from hypersdk_kernel.store.statements import Row, Statements, key_of
from hypersdk_kernel.store.tables import events

Key = tuple[Table, str]
_SAVEPOINT = "hypersdk_fn"


@cache
def _key_name(table: Table) -> str:
    """Of the only column of its primary key; empty when that has several."""
    return key_of(table).name if len(table.primary_key.columns) == 1 else ""


class Group:
    """The transaction. `revision`: the newest that was taken; `epoch`: of the leader, where there may be several
    kernels."""

    def __init__(self, conn: Connection, statements: Statements, revision: int, epoch: int | None) -> None:
        self.conn = conn
        self.revision = revision
        self.epoch = epoch
        self.cursor = conn.connection.cursor()
        self.statements = statements
        self._pending: list[tuple[Table, Row]] = []
        self._last: list[tuple[str, Row]] = []
        self._added: dict[Key, Row] = {}
        self._fetched: dict[Key, Row | None] = {}

    def learn(self, table: Table, keys: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
        """`rows` are all of `table` that have one of `keys`, which functions are going to ask `find` for."""
        names, key_name = table.columns.keys(), _key_name(table)
        self._fetched.update(((table, key), None) for key in keys)
        for values in rows:
            row = dict(zip(names, values, strict=True))
            self._fetched[table, row[key_name]] = row

    def find(self, table: Table, key: str) -> Row | None:
        known = self._added.get((table, key))
        if known is not None:
            return known
        if (table, key) in self._fetched:
            return self._fetched[table, key]
        return self.statements.fetch(self.cursor, table, key)

    def add(self, table: Table, row: Row) -> None:
        self._pending.append((table, row))
        key = _key_name(table)
        if key and table is not events:
            self._added[table, row[key]] = row

    def mark(self) -> int:
        return len(self._pending)

    def drop(self, mark: int) -> None:
        """Forget rows added since `mark`."""
        for table, row in self._pending[mark:]:
            if key := _key_name(table):
                self._added.pop((table, row[key]), None)
        del self._pending[mark:]

    def at_the_end(self, statement: str, parameters: Row) -> None:
        """To be executed after the last row was written."""
        self._last.append((statement, parameters))

    def flush(self, count: int | None = None, *, cursor: Any = None) -> None:
        """Write what was gathered, or the first `count` rows of it. With a `cursor` by that, and it is the end."""
        rows = self._pending[:count]
        del self._pending[:count]
        by_table: dict[Table, list[Row]] = {}
        for table, row in rows:
            by_table.setdefault(table, []).append(row)
        for table, listed in by_table.items():
            self.statements.insert(cursor or self.cursor, table, listed)
        if cursor is not None:
            for statement, parameters in self._last:
                cursor.execute(statement, parameters)

    def forget_lookups(self) -> None:
        """Somebody runs SQL of its own: what was found before may not hold any more."""
        self._fetched.clear()
        self._added.clear()


class Tx:
    """One function's view. `now`: wall time, seconds since the epoch. `emitted`: its events; `notes`: what it
    puts into the audit trail."""

    def __init__(self, group: Group, now: float) -> None:
        self.now = now
        self.emitted: list[Event] = []
        self.notes: list[AuditNote] = []
        self._group = group
        self._mark = group.mark()
        self._savepoint = False

    @property
    def conn(self) -> Connection:
        """For SQL of any kind. Ask for it anew after `insert` and `emit`."""
        group = self._group
        if not self._savepoint:
            group.flush(self._mark)
            group.cursor.execute(f"SAVEPOINT {_SAVEPOINT}")
            self._mark = 0
            self._savepoint = True
        group.flush()
        group.forget_lookups()
        return group.conn

    def insert(self, table: Table, row: Row) -> None:
        """Add a row of ready database values: every column, JSON as text. That its key is free is for the caller to
        see (`find`)."""
        self._group.add(table, row)

    def update(self, table: Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Rows of ready database values, the same columns in each: those that are no `keys` are set where these are."""
        _ = self.conn
        self._group.statements.update(self._group.cursor, table, keys, rows)

    def delete(self, table: Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """The rows whose `keys` are those of one of `rows`."""
        _ = self.conn
        named = [{key: row[key] for key in keys} for row in rows]
        self._group.statements.delete(self._group.cursor, table, keys, named)

    def find(self, table: Table, key: str) -> Row | None:
        """The row with that primary key, as this function would see it."""
        return self._group.find(table, key)

    def emit(
        self, type_: str, subject: str, actor: str, payload: Mapping[str, Any], *, revision: int | None = None
    ) -> Event:
        """Append an event to the log, in this transaction. `revision`: one from `new_revision`."""
        revision = self.new_revision() if revision is None else revision
        happened = Event(revision, self.now, type_, subject, actor, payload)
        text = payload.text if isinstance(payload, codec.JobPayload) else codec.dumps(payload)
        row = {"revision": revision, "time": self.now, "type": type_, "subject": subject, "actor": actor}
        self._group.add(events, {**row, "payload": text})
        self.emitted.append(happened)
        return happened

    def audit(
        self, action: str, subject: str, actor: str, outcome: str = OK, details: dict[str, Any] | None = None
    ) -> None:
        """Append to the audit trail, in this transaction."""
        self.notes.append(AuditNote(actor, action, subject, outcome, details or {}))

    def new_revision(self) -> int:
        """The next revision. A function that fails leaves a gap, which is harmless: only order matters."""
        self._group.revision += 1
        return self._group.revision

    @property
    def isolated(self) -> bool:
        """Can a failed statement be undone without the group?"""
        return self._savepoint

    def keep(self) -> None:
        if self._savepoint:
            self._group.flush()
            self._group.cursor.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")

    def undo(self) -> None:
        self._group.drop(self._mark)
        if self._savepoint:
            self._group.forget_lookups()
            self._group.cursor.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            self._group.cursor.execute(f"RELEASE SAVEPOINT {_SAVEPOINT}")

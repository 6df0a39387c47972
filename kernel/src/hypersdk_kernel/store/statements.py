"""SQL of the hot path, compiled once for each dialect and run on the driver's own cursor.

SQLAlchemy's execution of an insert costs some 100 µs, the driver's 10, and a submission has three to five of them. So
rows that are only added are gathered (`transaction`) and go in by one statement a table, those of a sheaf are changed
by one; everything else uses SQLAlchemy as usual. Rows are dicts of ready database values: JSON columns hold text here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import sqlalchemy
from sqlalchemy import ARRAY, JSON, ClauseElement, LargeBinary, Table, any_, bindparam, func, select

from hypersdk_kernel.store import codec

Row = dict[str, Any]

_ROWS = 64
"""In one statement: 64 × 15 columns are fewer parameters than any database allows."""


class Statements:
    """Of one engine."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        dialect: Any = engine.dialect
        if dialect.name == "sqlite":  # its driver takes dicts for :name, not for the ? that is its default
            dialect = type(dialect)(paramstyle="named")
        self._dialect = dialect
        self.sql = lru_cache(maxsize=64)(self._sql)
        self._mark = "?" if dialect.name == "sqlite" else "%s"
        self._insert_sql = lru_cache(maxsize=256)(self._insert_text)
        self._as_json = dialect.name == "postgresql"
        self._many = lru_cache(maxsize=64)(self._many_sql)
        self._select_one = lru_cache(maxsize=64)(
            lambda table: self._sql(select(table).where(key_of(table) == bindparam("key")))
        )
        self._select_many = lru_cache(maxsize=64)(lambda table: self._sql(self._by_keys(table)))

    def _sql(self, statement: ClauseElement) -> str:
        """The text of a statement whose parameters are all bindparams. `sql` is the same for one that is kept."""
        return str(statement.compile(dialect=self._dialect))

    def _by_keys(self, table: Table) -> ClauseElement:
        """One text for any number of keys: they are one parameter."""
        column = key_of(table)
        if self._dialect.name == "sqlite":
            keys = func.json_each(bindparam("keys")).table_valued("value")
            return select(table).where(column.in_(select(keys.c.value)))
        return select(table).where(column == any_(bindparam("keys", type_=ARRAY(column.type))))

    def insert(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        if self._as_json and len(rows) > 1 and not _has_bytes(table):
            self._execute(cursor, self._many("insert", table, (), tuple(table.columns.keys())), rows)
        else:
            self._insert_plain(cursor, table, rows)

    def _insert_plain(self, cursor: Any, table: Table, rows: Sequence[Row]) -> None:
        """Many rows in few steps: at each of its steps a driver lets go of the interpreter, and has to wait for it
        again while others are busy."""
        taken = itemgetter(*table.columns.keys())
        start = 0
        while start < len(rows):
            count = min(1 << (len(rows) - start).bit_length() - 1, _ROWS)  # powers of two, so that there are few texts
            values = chain.from_iterable(map(taken, rows[start : start + count]))
            cursor.execute(self._insert_sql(table, count), list(values))
            start += count

    def update(self, cursor: Any, table: Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Of each row the columns that are no `keys`, where the keys are the row's. All rows have the same columns."""
        if rows:
            self._execute(cursor, self._many("update", table, keys, tuple(rows[0])), rows)

    def delete(self, cursor: Any, table: Table, keys: tuple[str, ...], rows: Sequence[Row]) -> None:
        """Where the keys are a row's."""
        if rows:
            self._execute(cursor, self._many("delete", table, keys, keys), rows)

    def _insert_text(self, table: Table, count: int) -> str:
        names = table.columns.keys()
        row = f"({', '.join([self._mark] * len(names))})"
        listed = ", ".join([row] * count)
        return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {listed}"  # noqa: S608 - names of our own schema

    def _execute(self, cursor: Any, statement: str, rows: Sequence[Row]) -> None:
        """PostgreSQL's driver sends a statement for each row of `executemany`, 40 µs of it; here they are one value."""
        if self._as_json:
            cursor.execute(statement, {"rows": codec.dumps(rows)})
        else:
            cursor.executemany(statement, rows)

    def _plain(self, table: Table, name: str) -> str:
        column_type = table.columns[name].type
        return "TEXT" if isinstance(column_type, JSON) else str(column_type.compile(dialect=self._dialect))

    def _many_sql(self, verb: str, table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> str:
        sets = [name for name in names if name not in keys]
        if not self._as_json:
            where = " AND ".join(f"{key} = :{key}" for key in keys)
            if verb == "delete":
                return f"DELETE FROM {table.name} WHERE {where}"  # noqa: S608 - names of our own schema
            changed = ", ".join(f"{n} = :{n}" for n in sets)
            return f"UPDATE {table.name} SET {changed} WHERE {where}"  # noqa: S608 - as above
        types = {n: self._plain(table, n) for n in names}
        given = f"json_to_recordset(%(rows)s::json) AS given({', '.join(f'{n} {t}' for n, t in types.items())})"
        where = " AND ".join(f"{table.name}.{key} = given.{key}" for key in keys)
        values = [f"given.{n}::json" if isinstance(table.columns[n].type, JSON) else f"given.{n}" for n in names]
        if verb == "insert":
            columns, taken = ", ".join(names), ", ".join(values)
            return f"INSERT INTO {table.name} ({columns}) SELECT {taken} FROM {given}"  # noqa: S608 - as above
        if verb == "delete":
            return f"DELETE FROM {table.name} USING {given} WHERE {where}"  # noqa: S608 - as above
        changed = ", ".join(f"{n} = given.{n}" for n in sets)
        return f"UPDATE {table.name} SET {changed} FROM {given} WHERE {where}"  # noqa: S608 - as above

    def fetch(self, cursor: Any, table: Table, key: str) -> Row | None:
        """The row with that primary key."""
        cursor.execute(self._select_one(table), {"key": key})
        row = cursor.fetchone()
        return None if row is None else dict(zip(table.columns.keys(), row, strict=True))

    def lookup(self, table: Table, keys: Sequence[str]) -> tuple[str, Row]:
        """What reads the rows of those keys, whole."""
        listed = json.dumps(keys) if self._dialect.name == "sqlite" else list(keys)
        return self._select_many(table), {"keys": listed}


def _has_bytes(table: Table) -> bool:
    return any(isinstance(column.type, LargeBinary) for column in table.columns)


def key_of(table: Table) -> sqlalchemy.Column[Any]:
    """The only column of its primary key."""
    (column,) = table.primary_key.columns
    return column

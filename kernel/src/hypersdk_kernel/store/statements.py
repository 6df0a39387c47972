"""SQL of the hot path, compiled once for each dialect and run on the driver's own cursor.

SQLAlchemy's execution of an insert costs some 100 µs, the driver's 10, and a submission has three to five of them. So
rows that are only added are gathered (`transaction`) and go in by one `executemany` a table; everything else uses
SQLAlchemy as usual. Rows are dicts of ready database values: JSON columns hold text here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy import ARRAY, ClauseElement, Table, any_, bindparam, func, insert, select

Row = dict[str, Any]


class Statements:
    """Of one engine."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        dialect: Any = engine.dialect
        if dialect.name == "sqlite":  # its driver takes dicts for :name, not for the ? that is its default
            dialect = type(dialect)(paramstyle="named")
        self._dialect = dialect
        self.sql = lru_cache(maxsize=64)(self._sql)
        self._insert = lru_cache(maxsize=64)(lambda table: self._sql(insert(table)))
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
        cursor.executemany(self._insert(table), rows)

    def fetch(self, cursor: Any, table: Table, key: str) -> Row | None:
        """The row with that primary key."""
        cursor.execute(self._select_one(table), {"key": key})
        row = cursor.fetchone()
        return None if row is None else dict(zip(table.columns.keys(), row, strict=True))

    def fetch_many(self, cursor: Any, table: Table, keys: Sequence[str]) -> dict[str, Row | None]:
        """Each key's row, or None, in one round trip."""
        found: dict[str, Row | None] = dict.fromkeys(keys)
        listed = json.dumps(keys) if self._dialect.name == "sqlite" else list(keys)
        cursor.execute(self._select_many(table), {"keys": listed})
        names, key = table.columns.keys(), key_of(table).name
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            found[row[key]] = row
        return found


def key_of(table: Table) -> sqlalchemy.Column[Any]:
    """The only column of its primary key."""
    (column,) = table.primary_key.columns
    return column

"""SQL of the hot path, compiled once for each dialect and run on the driver's own cursor.

SQLAlchemy's execution of an insert costs some 100 µs, the driver's 10, and a submission has three to five of them. So
rows that are only added are gathered (`transaction`) and go in by one `executemany` a table; everything else uses
SQLAlchemy as usual. Rows are dicts of ready database values: JSON columns hold text here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy
from sqlalchemy import Table, bindparam, insert, select

Row = dict[str, Any]

_KEYS_AT_ONCE = 500
"""In one IN list; SQLite's default limit of variables is 32,766, older ones' 999."""


class Statements:
    """Of one engine."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        dialect: Any = engine.dialect
        if dialect.name == "sqlite":  # its driver takes dicts for :name, not for the ? that is its default
            dialect = type(dialect)(paramstyle="named")
        self._dialect = dialect
        self.insert = lru_cache(maxsize=64)(self._insert)
        self._select_one = lru_cache(maxsize=64)(self._compile_one)

    def _insert(self, table: Table) -> str:
        return str(insert(table).compile(dialect=self._dialect))

    def _compile_one(self, table: Table) -> str:
        return str(select(table).where(key_of(table) == bindparam("key")).compile(dialect=self._dialect))

    def fetch(self, cursor: Any, table: Table, key: str) -> Row | None:
        """The row with that primary key."""
        cursor.execute(self._select_one(table), {"key": key})
        row = cursor.fetchone()
        return None if row is None else dict(zip(table.columns.keys(), row, strict=True))

    @staticmethod
    def fetch_many(conn: sqlalchemy.Connection, table: Table, keys: Sequence[str]) -> dict[str, Row | None]:
        """Each key's row, or None, in few round trips."""
        found: dict[str, Row | None] = dict.fromkeys(keys)
        column = key_of(table)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            query = select(table).where(column.in_(keys[start : start + _KEYS_AT_ONCE]))
            for row in conn.execute(query).mappings():
                found[row[column.name]] = dict(row)
        return found


def key_of(table: Table) -> sqlalchemy.Column[Any]:
    """The only column of its primary key."""
    (column,) = table.primary_key.columns
    return column

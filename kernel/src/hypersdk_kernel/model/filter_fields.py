"""What a filter may compare: kinds of fields, and one comparison as a predicate or as SQL.

Not here: the grammar (filter.py), and which fields a resource has.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypersdk.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement


class Kind(enum.Enum):
    """What a field holds. TIME is seconds since the epoch in the row, RFC 3339 in the filter. JSON is an object whose
    parts are compared by what they are: numbers as numbers, `true` and `false` as such. It has no SQL."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    ENUM = "enum"
    MAP = "map"
    JSON = "json"


class Test(enum.StrEnum):
    """How field and value are compared."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    HAS = ":"


_ORDER: dict[Test, Callable[[Any, Any], Any]] = {
    Test.LT: operator.lt, Test.LE: operator.le, Test.GT: operator.gt, Test.GE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """`path` `test` `value`, as written. `quoted`: the value stood in quotes. `position`: of the field, from 0."""

    path: tuple[str, ...]
    test: Test
    value: str
    quoted: bool
    position: int


@dataclass(frozen=True, slots=True)
class Field:
    """A field that may be filtered by.

    get     from a row its value, or of a MAP the mapping; None where there is no value
    column  its SQLAlchemy expression; of a MAP a function from a key to the expression of that key's text
    values  of an ENUM: what it may be, lower case
    prefix  of a TEXT: what every value begins with and `stored`, its column, does not hold; so that an index on the
            column answers whether they are equal
    """

    kind: Kind
    get: Callable[[Any], Any]
    column: Any = None
    values: tuple[str, ...] = ()
    prefix: str = ""
    stored: Any = None

    def predicate(self, comparison: Comparison) -> Callable[[Any], bool]:
        """Raises InvalidArgument (FILTER_INVALID) when the value is not of this field's kind."""
        if self.kind is Kind.JSON:
            return _json_predicate(self.get, comparison)
        key, value = self._operand(comparison)
        get, test = self.get, comparison.test
        if key is not None:
            get = _getter(self.get, key)
        if test is Test.HAS and value is None:
            return lambda row: get(row) is not None
        if isinstance(value, _Prefix):
            prefix = value.text

            def starts(row: Any) -> bool:
                found = get(row)
                return found is not None and bool(found.startswith(prefix))

            return (lambda row: not starts(row)) if test is Test.NE else starts
        if test is Test.EQ or (test is Test.HAS and self.kind is not Kind.TEXT):
            return lambda row: get(row) == value
        if test is Test.NE:
            return lambda row: get(row) != value
        if test is Test.HAS:
            return lambda row: get(row) is not None and value in get(row)
        compare = _ORDER[test]
        return lambda row: get(row) is not None and bool(compare(get(row), value))

    def sql(self, comparison: Comparison) -> ColumnElement[bool]:
        """As `predicate`. Never NULL, so that NOT means what it says."""
        from sqlalchemy import and_, false, func, or_

        if self.kind is Kind.JSON:
            raise invalid(f"{comparison.path[0]} cannot be searched by", comparison.position)
        key, value = self._operand(comparison)
        column = self.column(key) if key is not None else self.column
        test = comparison.test
        there: ColumnElement[bool] = column.is_not(None)
        if test is Test.HAS and value is None:
            return there
        if isinstance(value, _Prefix):
            # substr and not LIKE: LIKE ignores the case of ASCII letters in SQLite.
            starts = func.substr(column, 1, len(value.text)) == value.text
            return or_(column.is_(None), ~starts) if test is Test.NE else and_(there, starts)
        if test is Test.EQ and self.prefix:
            rest = value.removeprefix(self.prefix)
            bare = bool(rest) and value.startswith(self.prefix)
            return self.stored == rest if bare else false()
        if test is Test.EQ or (test is Test.HAS and self.kind is not Kind.TEXT):
            return and_(there, column == value)
        if test is Test.NE:
            return or_(column.is_(None), column != value)
        if test is Test.HAS:
            return and_(there, func.instr(column, value) > 0)
        return and_(there, _ORDER[test](column, value))

    def _operand(self, comparison: Comparison) -> tuple[str | None, Any]:
        """The key within a MAP, if any, and the value to compare with: None for "is there", or a _Prefix."""
        path, value, test = comparison.path, comparison.value, comparison.test
        if self.kind is Kind.MAP:
            return self._map_operand(comparison)
        if len(path) > 1:
            raise invalid(f"{path[0]} has no parts", comparison.position)
        if value == "*" and not comparison.quoted and test is Test.HAS:
            return None, None
        if self.kind is Kind.TEXT:
            return None, _text(comparison)
        if self.kind is Kind.ENUM:
            return None, self._enum(comparison)
        return None, _time(comparison) if self.kind is Kind.TIME else _number(comparison)

    def _map_operand(self, comparison: Comparison) -> tuple[str, Any]:
        path, value = comparison.path, comparison.value
        if len(path) == 1 and comparison.test is Test.HAS:
            return value, None
        if len(path) != 2:
            raise invalid(f"{path[0]} is a map; write {path[0]}.key or {path[0]}:key", comparison.position)
        if value == "*" and not comparison.quoted and comparison.test is Test.HAS:
            return path[1], None
        return path[1], _text(comparison)

    def _enum(self, comparison: Comparison) -> str:
        if comparison.test not in {Test.EQ, Test.NE, Test.HAS}:
            raise invalid(f"{comparison.path[0]} has no order; use = or !=", comparison.position)
        given = comparison.value.lower()
        for value in self.values:
            if given == value or given.endswith(f"_state_{value}"):
                return value
        known = ", ".join(v.upper() for v in self.values)
        what = f"{comparison.value[:40]!r} is not a {comparison.path[0]}; these are: {known}"
        raise invalid(what, comparison.position)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What a text begins with."""

    text: str


def _getter(get: Callable[[Any], Any], key: str) -> Callable[[Any], Any]:
    return lambda row: (get(row) or {}).get(key)


def _json_predicate(get: Callable[[Any], Any], comparison: Comparison) -> Callable[[Any], bool]:
    keys, test, value = comparison.path[1:], comparison.test, comparison.value
    there_only = test is Test.HAS and value == "*" and not comparison.quoted

    def matches(row: Any) -> bool:
        found = get(row)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if there_only or found is None:
            return found is not None if there_only else test is Test.NE
        wanted = _like(found, value)
        if test is Test.HAS:
            return value in found if isinstance(found, dict | list | str) else found == wanted
        if test in {Test.EQ, Test.NE}:
            return (found == wanted) is (test is Test.EQ)
        ordered = isinstance(found, int | float | str) and not isinstance(found, bool)
        return ordered and isinstance(wanted, str) is isinstance(found, str) and bool(_ORDER[test](found, wanted))

    return matches


def _like(found: Any, value: str) -> Any:
    """`value` as what `found` is: bool, number or text; as text where it is not one of those."""
    if isinstance(found, bool):
        return {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(found, int | float):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    return value


def _text(comparison: Comparison) -> str | _Prefix:
    value = comparison.value
    if value.endswith("*") and comparison.test in {Test.EQ, Test.NE}:
        return _Prefix(value[:-1])
    return value


def _number(comparison: Comparison) -> float:
    try:
        number = float(comparison.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise invalid(f"{comparison.value[:40]!r} is not a number", comparison.position)
    return number


def _time(comparison: Comparison) -> float:
    try:
        time = dt.datetime.fromisoformat(comparison.value)
        if time.tzinfo is not None:
            return time.timestamp()
    except (ValueError, OverflowError):
        pass
    raise invalid(f'{comparison.value[:40]!r} is not a time; write it as "2026-01-31T12:00:00Z"', comparison.position)


def invalid(what: str, position: int) -> InvalidArgument:
    """The error about a filter; `position` counts characters from 0."""
    place = f"at character {position + 1}: {what}"
    return InvalidArgument(
        f"filter, {place}",
        reason="FILTER_INVALID",
        metadata={"position": str(position)},
        violations=(FieldViolation("filter", place),),
    )

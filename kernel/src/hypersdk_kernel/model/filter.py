"""Filters of List and Watch methods: a subset of AIP-160, parsed once, then judged by a predicate or put into SQL.

    filter      = sequence { "AND" sequence }
    sequence    = disjunct { disjunct }              terms side by side are joined by AND
    disjunct    = term { "OR" term }                 OR binds tighter than AND, as AIP-160 has it
    term        = [ "NOT" | "-" ] ( "(" filter ")" | comparison )
    comparison  = field operator value
    field       = name { "." ( name | string ) }     labels.env, labels."example.com/team"
    operator    = "=" | "!=" | "<" | "<=" | ">" | ">=" | ":"
    value       = string | word                      "…" or '…', a backslash before a quote or a backslash; a word has
                                                     no space, quote or parenthesis. A trailing * matches a prefix

`:` means "has": `labels:env` and `labels.env:*` that the key is there; of a text, that it contains the value.
A field that has no value equals nothing: `=`, `<`, `>` and `:` are false, `!=` is true.

Not here: which fields a resource has (each list names its own, name → Field), and full-text search.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypersdk.errors import InvalidArgument

from hypersdk_kernel.model.filter_fields import Comparison, Field, Test, invalid

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

MAX_DEPTH = 32
"""Parentheses and negations within each other."""
MAX_COMPARISONS = 64
"""A statement of more terms than this is a program, not a filter; SQLite's own limit of depth is 1,000."""

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|:")
_WORD = re.compile(r"""[^\s()"']+""")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Node, ...]


Node = Comparison | Not | And | Or


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter; `root` is None for the empty one, which everything passes."""

    text: str
    root: Node | None

    def predicate(self, fields: Mapping[str, Field]) -> Callable[[Any], bool]:
        """A function that judges a row by the fields' `get`. Raises InvalidArgument (FILTER_INVALID) when a field is
        unknown or a value not of its kind."""
        return _predicate(self.root, fields) if self.root is not None else lambda _row: True

    def demanded(self, field: str) -> tuple[str, str] | None:
        """A key of the map `field` and the value that it must have in everything that passes, if there is one that is
        easily seen: for who has an index on them."""
        terms = self.root.operands if isinstance(self.root, And) else (self.root,)
        for term in terms:
            if not isinstance(term, Comparison) or term.test is not Test.EQ or term.value.endswith("*"):
                continue
            if len(term.path) == 2 and term.path[0] == field:
                return term.path[1], term.value
        return None

    def sql(self, fields: Mapping[str, Field]) -> ColumnElement[bool] | None:
        """The same as an SQL condition over the fields' `column`; None for the empty filter. Raises as `predicate`."""
        return _sql(self.root, fields) if self.root is not None else None


def parse(text: str) -> Filter:
    """Raises InvalidArgument (FILTER_INVALID) that says where it stops making sense."""
    parser = _Parser(text)
    if parser.at_end():
        return Filter(text, None)
    root = parser.conjunction(0)
    if not parser.at_end():
        raise parser.error("is not expected here")
    return Filter(text, root)


class _Parser:
    """Recursive descent over `text`; `_at` is where it stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._comparisons = 0

    def at_end(self) -> bool:
        self._at = _end(_SPACE, self._text, self._at)
        return self._at == len(self._text)

    def error(self, what: str) -> InvalidArgument:
        found = _WORD.match(self._text, self._at)
        seen = "the end" if self.at_end() else repr(found.group()[:40] if found else self._text[self._at])
        return invalid(f"{seen} {what}", self._at)

    def conjunction(self, depth: int) -> Node:
        operands = [self._sequence(depth)]
        while self._keyword("AND"):
            operands.append(self._sequence(depth))
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _sequence(self, depth: int) -> Node:
        operands = [self._disjunction(depth)]
        while not (self.at_end() or self._text[self._at] == ")" or self._keyword("AND", take=False)):
            operands.append(self._disjunction(depth))
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _disjunction(self, depth: int) -> Node:
        operands = [self._term(depth)]
        while self._keyword("OR"):
            operands.append(self._term(depth))
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _term(self, depth: int) -> Node:
        if depth >= MAX_DEPTH:
            raise invalid(f"more than {MAX_DEPTH} parentheses and negations within each other", self._at)
        if self._keyword("NOT") or self._symbol("-"):
            return Not(self._term(depth + 1))
        if self._symbol("("):
            inner = self.conjunction(depth + 1)
            if not self._symbol(")"):
                raise self.error('where ")" was expected')
            return inner
        return self._comparison()

    def _comparison(self) -> Comparison:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise invalid(f"more than {MAX_COMPARISONS} comparisons", self._at)
        self.at_end()
        start = self._at
        name = _NAME.match(self._text, self._at)
        if name is None or name.group() in {"AND", "OR", "NOT"}:
            raise self.error("where a field's name was expected")
        self._at = name.end()
        path = [name.group()]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._key())
        self.at_end()
        op = _OPERATOR.match(self._text, self._at)
        if op is None:
            raise self.error("where one of = != < <= > >= : was expected; text without a field is not searched")
        self._at = op.end()
        value, quoted = self._value()
        return Comparison(tuple(path), Test(op.group()), value, quoted, start)

    def _key(self) -> str:
        string = self._string()
        if string is not None:
            return string
        key = _KEY.match(self._text, self._at)
        if key is None:
            raise self.error("where a key was expected; put keys with other characters in quotes")
        self._at = key.end()
        return key.group()

    def _value(self) -> tuple[str, bool]:
        self.at_end()
        string = self._string()
        if string is not None:
            return string, True
        word = _WORD.match(self._text, self._at)
        if word is None or word.group() in {"AND", "OR", "NOT"}:
            raise self.error("where a value was expected")
        self._at = word.end()
        return word.group(), False

    def _string(self) -> str | None:
        if self._text[self._at : self._at + 1] not in {'"', "'"}:
            return None
        match = _STRING.match(self._text, self._at)
        if match is None:
            raise invalid("a quote that is never closed", self._at)
        self._at = match.end()
        return _ESCAPE.sub(r"\1", match[1] if match[1] is not None else match[2])

    def _keyword(self, word: str, *, take: bool = True) -> bool:
        self.at_end()
        match = _WORD.match(self._text, self._at)
        if match is None or match.group() != word:
            return False
        if take:
            self._at = match.end()
        return True

    def _symbol(self, symbol: str) -> bool:
        self.at_end()
        if not self._text.startswith(symbol, self._at):
            return False
        self._at += len(symbol)
        return True


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _field(comparison: Comparison, fields: Mapping[str, Field]) -> Field:
    field = fields.get(comparison.path[0])
    if field is None:
        known = ", ".join(sorted(fields))
        what = f"{comparison.path[0][:40]!r} is not a field that can be filtered by; these are: {known}"
        raise invalid(what, comparison.position)
    return field


def _predicate(node: Node, fields: Mapping[str, Field]) -> Callable[[Any], bool]:
    if isinstance(node, Comparison):
        return _field(node, fields).predicate(node)
    if isinstance(node, Not):
        operand = _predicate(node.operand, fields)
        return lambda row: not operand(row)
    operands = [_predicate(n, fields) for n in node.operands]
    if isinstance(node, And):
        return lambda row: all(operand(row) for operand in operands)
    return lambda row: any(operand(row) for operand in operands)


def _sql(node: Node, fields: Mapping[str, Field]) -> ColumnElement[bool]:
    from sqlalchemy import and_, not_, or_

    if isinstance(node, Comparison):
        return _field(node, fields).sql(node)
    if isinstance(node, Not):
        return not_(_sql(node.operand, fields))
    operands = [_sql(n, fields) for n in node.operands]
    return and_(*operands) if isinstance(node, And) else or_(*operands)

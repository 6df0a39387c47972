"""Data on stdout: table, wide, json, yaml or name.

A table is drawn by rich on a terminal and as aligned plain text elsewhere, never cut, so that awk and diff work.
JSON of a list is one array; of a watch, one object a line.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from hyperctl.messages import to_plain

M = TypeVar("M", bound=Message)


class Mode(enum.StrEnum):
    """Values of -o."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column(Generic[M]):
    """A column of a table. `wide`: shown with `-o wide` only."""

    title: str
    cell: Callable[[M], object]
    wide: bool = False


def show_list(items: Iterable[M], columns: Sequence[Column[M]], mode: Mode, *, empty: str = "") -> None:
    """Print a list. `empty` is said on stderr when a table would have no rows."""
    if mode in {Mode.TABLE, Mode.WIDE}:
        chosen = [c for c in columns if mode is Mode.WIDE or not c.wide]
        rows = [[_text(c.cell(item)) for c in chosen] for item in items]
        if rows:
            show_table([c.title for c in chosen], rows)
        elif empty:
            sys.stderr.write(empty + "\n")
    elif mode is Mode.NAME:
        for item in items:
            sys.stdout.write(f"{_name(item)}\n")
    else:
        _dump([to_plain(item) for item in items], mode)


def show_one(item: Message, mode: Mode) -> None:
    """Print one message, in tables as `key: value` lines."""
    if mode is Mode.NAME:
        sys.stdout.write(f"{_name(item)}\n")
    else:
        show_value(to_plain(item), mode)


def show_value(value: Any, mode: Mode) -> None:
    """Print a plain value."""
    if mode in {Mode.TABLE, Mode.WIDE}:
        sys.stdout.write("".join(f"{line}\n" for line in _lines(value, 0)))
    else:
        _dump(value, mode)


def show_streamed(item: Message, columns: Sequence[Column[Any]], mode: Mode) -> None:
    """Print one item of a stream at once: a line of a table, of JSON, or a YAML document."""
    if mode is Mode.NAME:
        sys.stdout.write(f"{_name(item)}\n")
    elif mode is Mode.JSON:
        sys.stdout.write(json.dumps(to_plain(item), ensure_ascii=False) + "\n")
    elif mode is Mode.YAML:
        sys.stdout.write("---\n")
        _dump(to_plain(item), mode)
    else:
        chosen = [c for c in columns if mode is Mode.WIDE or not c.wide]
        sys.stdout.write("  ".join(_text(c.cell(item)) for c in chosen) + "\n")
    sys.stdout.flush()


def _name(item: Message) -> str:
    """The resource name; what has none prints its first field."""
    fields = item.DESCRIPTOR.fields_by_name
    return str(getattr(item, "name" if "name" in fields else next(iter(fields))))


def _text(value: object) -> str:
    text = "-" if value is None or value == "" else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _dump(value: Any, mode: Mode) -> None:
    if mode is Mode.YAML:
        import yaml

        yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True)
    else:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")


def show_table(titles: list[str], rows: list[list[str]]) -> None:
    """Print rows of text below their titles."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles:
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    for row in [titles, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


_STYLES = {
    "RUNNING": "cyan", "SUCCEEDED": "green", "ACTIVE": "green", "SERVING": "green", "FAILED": "red",
    "PASSED": "green", "WARNED": "yellow",
    "QUARANTINED": "red", "CANCELLED": "yellow", "RETRYING": "yellow", "PAUSED": "yellow",
}  # fmt: skip


def _lines(value: Any, indent: int) -> Iterable[str]:
    pad = "  " * indent
    for key, item in value.items() if isinstance(value, dict) else ((f"[{i}]", v) for i, v in enumerate(value)):
        if isinstance(item, dict | list):
            if item:
                yield f"{pad}{key}:"
                yield from _lines(item, indent + 1)
        elif item is not None and item != "":
            yield f"{pad}{key}: {_text(item)}"

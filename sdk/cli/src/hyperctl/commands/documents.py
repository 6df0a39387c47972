"""What the commands of resources share that are written in files: a document from a file and `KEY=VALUE` flags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from google.protobuf.message import Message

from hyperctl.commands.common import mode_of
from hyperctl.fromplain import from_plain
from hyperctl.output import Mode, show_one
from hyperctl.pairs import parse_pairs, read_config_file, typed
from hyperctl.session import Session

M = TypeVar("M", bound=Message)

FileOption = Annotated[Path | None, typer.Option("--file", "-f", help="YAML, JSON or TOML. Flags win over it.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A field, as in a file; repeatable.")
]
OUTPUT_ONLY = frozenset({"name", "create_time", "update_time", "etag", "open", "next_change_time"})


def document(message: M, file: Path | None, fields: list[str] | None, more: Mapping[str, Any] | None = None) -> M:
    """`message` filled in from a file, `--set` and flags; a later one wins. Raises InvalidArgument
    (TEMPLATE_INVALID)."""
    values = read_config_file(file, doing=f"reading {file}") if file is not None else {}
    values = {key: value for key, value in values.items() if key not in OUTPUT_ONLY}
    for path, value in typed(parse_pairs(fields or [], flag="--set")).items():
        _put(values, path.split("."), value)
    values.update({key: value for key, value in (more or {}).items() if value not in (None, [], "")})
    return from_plain(values, message)


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """`a.b` = value: into the mapping `a`."""
    for key in path[:-1]:
        inner = values.get(key)
        below = dict(inner) if isinstance(inner, dict) else {}
        values[key] = below
        values = below
    values[path[-1]] = value


def done(session: Session, message: Any, text: str, output: Mode | None) -> None:
    """Say what was done, or show what came of it."""
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"{message.name}: {text}")
    else:
        show_one(message, mode)

"""Plain values, as people write them in YAML or JSON, as proto messages: the other way of `messages`.

Enum values go without their prefix (`RUN_ONCE`), durations are `1h30m` or seconds, times RFC 3339. A key that the
message does not have is refused with its path, because a slip would else be silence.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypersdk.errors import InvalidArgument

from hyperctl.units import parse_duration

M = TypeVar("M", bound=Message)
_Field = Any


def from_plain(value: Any, message: M, path: str = "") -> M:
    """Fill `message` in and return it. Raises InvalidArgument (TEMPLATE_INVALID) naming the place."""
    try:
        ParseDict(_message(value, message.DESCRIPTOR, path), message)
    except (ParseError, ValueError) as exc:
        raise _wrong(path, str(exc)) from exc
    return message


def _message(value: Any, descriptor: Any, path: str) -> Any:
    kind = descriptor.full_name
    if kind == Duration.DESCRIPTOR.full_name:
        seconds = value if isinstance(value, int | float) else parse_duration(str(value))
        return f"{seconds:.9f}s"
    if kind == Timestamp.DESCRIPTOR.full_name:
        return _moment(value, path)
    if kind == Struct.DESCRIPTOR.full_name:
        return _json(value)
    if not isinstance(value, Mapping):
        raise _wrong(path, "must be a mapping of names to values")
    out = {}
    for key, inner in value.items():
        field = descriptor.fields_by_name.get(str(key))
        where = f"{path}.{key}" if path else str(key)
        if field is None:
            raise _wrong(where, f"is not known; there are {', '.join(sorted(descriptor.fields_by_name))}")
        out[str(key)] = _field(inner, field, where)
    return out


def _field(value: Any, field: _Field, path: str) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(value, Mapping):
            raise _wrong(path, "must be a mapping of names to values")
        item = field.message_type.fields_by_name["value"]
        return {str(k): _single(v, item, f"{path}.{k}") for k, v in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise _wrong(path, "must be a list")
        return [_single(item, field, f"{path}[{index}]") for index, item in enumerate(value)]
    return _single(value, field, path)


def _single(value: Any, field: _Field, path: str) -> Any:
    if field.message_type is not None:
        return _message(value, field.message_type, path)
    if field.enum_type is not None:
        return _enum(value, field.enum_type, path)
    if field.type == field.TYPE_STRING and not isinstance(value, str):
        if isinstance(value, dt.date):
            return value.isoformat()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)  # a label such as `release: 7`
        raise _wrong(path, "must be text")
    return value


def _enum(value: Any, enum: Any, path: str) -> str:
    names = [known.name for known in enum.values]
    if value in ("", None):  # as `messages` prints the one that says nothing
        return str(names[0])
    text = str(value).upper().replace("-", "_")
    prefix = names[0].removesuffix("UNSPECIFIED")
    for candidate in (text, prefix + text):
        if candidate in names:
            return candidate
    raise _wrong(path, f"must be one of {', '.join(n.removeprefix(prefix) for n in names[1:])}")


def _moment(value: Any, path: str) -> str:
    """YAML reads an unquoted time as a datetime; one without a zone is UTC."""
    try:
        moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    except ValueError as exc:
        raise _wrong(path, "must be a time such as 2026-11-25T02:00:00Z") from exc
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_json(v) for v in value]
    return value.isoformat() if isinstance(value, dt.date) else value


def _wrong(path: str, rule: str) -> InvalidArgument:
    return InvalidArgument(f"{path or 'the template'}: {rule}", reason="TEMPLATE_INVALID")

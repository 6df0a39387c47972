"""Proto messages as plain values for JSON, YAML and tables.

Unlike proto3's JSON mapping, 64-bit integers stay numbers and enum values lose their prefix (`RUNNING`), because
people and jq read this. Every scalar is present, so that scripts find their keys; absent messages, and scalars that
can be absent and are, are left out.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

_Field: TypeAlias = Any
"""A field descriptor; the stubs know two classes of them, pure and upb, without a common base."""


def to_plain(message: Message) -> Any:
    """The message as dicts, lists and scalars."""
    if isinstance(message, Timestamp):
        return message.ToJsonString()
    if isinstance(message, Duration):
        return message.seconds + message.nanos / 1e9
    if isinstance(message, Struct):
        return _whole_numbers(MessageToDict(message))
    out: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            out[field.name] = _repeated(field, value)
        elif field.has_presence and not message.HasField(field.name):
            continue
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            out[field.name] = _scalar(field, value)
        else:
            out[field.name] = to_plain(value)
    return out


def enum_name(field: _Field, number: int) -> str:
    """`RUNNING` for JOB_STATE_RUNNING; the number itself where this client knows no name."""
    enum = field.enum_type
    value = enum.values_by_number.get(number) if enum is not None else None
    if enum is None or value is None:
        return str(number)
    prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name).lstrip("_") + "_"
    name: str = value.name.removeprefix(prefix)
    return "" if name == "UNSPECIFIED" else name


def _repeated(field: _Field, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item = field.message_type.fields_by_name["value"]
        return {
            str(k): to_plain(v) if item.type == FieldDescriptor.TYPE_MESSAGE else _scalar(item, v)
            for k, v in sorted(value.items())
        }
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return [to_plain(item) for item in value]
    return [_scalar(field, item) for item in value]


def _scalar(field: _Field, value: Any) -> Any:
    return enum_name(field, value) if field.type == FieldDescriptor.TYPE_ENUM else value


def _whole_numbers(value: Any) -> Any:
    """Struct has only doubles; 3.0 was a 3."""
    if isinstance(value, dict):
        return {k: _whole_numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value

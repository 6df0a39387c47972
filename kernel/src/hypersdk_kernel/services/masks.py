"""Update masks (AIP-134): what an update leaves of a resource and what it sets."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from hypersdk.errors import FieldViolation, InvalidArgument

M = TypeVar("M", bound=Message)


def merged(current: M, given: M, mask: FieldMask) -> M:
    """`current` with the fields that `mask` names as in `given`; without a mask all of `given`. Raises InvalidArgument
    (FIELD_MASK_INVALID)."""
    if not mask.paths or "*" in mask.paths:
        return given
    descriptor: Any = current.DESCRIPTOR
    if not mask.IsValidForDescriptor(descriptor):
        rule = f"must name fields of {current.DESCRIPTOR.name}"
        raise InvalidArgument(
            f"update_mask {rule}", reason="FIELD_MASK_INVALID", violations=(FieldViolation("update_mask", rule),)
        )
    out = type(current)()
    out.CopyFrom(current)
    for path in mask.paths:
        out.ClearField(path.partition(".")[0])
    mask.MergeMessage(given, out, replace_message_field=True, replace_repeated_field=True)
    return out

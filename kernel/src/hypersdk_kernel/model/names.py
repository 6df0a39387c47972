"""Resource names and ids (AIP-122): `jobs/{job}`, `connections/{connection}/machines/{machine}`, …"""

from __future__ import annotations

import re
import time
from functools import lru_cache

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel.model.randomness import random_bytes

ID_PATTERN = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_ID = re.compile(rf"\A{ID_PATTERN}\Z")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]
_MOMENTS = len(_DIGITS) ** 8


def check_id(value: str, field: str) -> str:
    """The id itself, or InvalidArgument (ID_INVALID) naming `field`."""
    if not _ID.match(value):
        rule = "must start with a letter, hold only a-z, 0-9 and '-', not end with '-', and have 1 to 63 characters"
        raise InvalidArgument(
            f"{field}: {value[:80]!r} {rule}", reason="ID_INVALID", violations=(FieldViolation(field, rule),)
        )
    return value


def id_of(name: str, collection: str, field: str = "name") -> str:
    """`x` of `{collection}/x`. Raises InvalidArgument (NAME_INVALID)."""
    prefix, _, rest = name.partition("/")
    if prefix != collection or not _ID.match(rest):
        rule = f"must be {collection}/{{id}}"
        raise InvalidArgument(
            f"{field}: {name[:80]!r} {rule}", reason="NAME_INVALID", violations=(FieldViolation(field, rule),)
        )
    return rest


def connection_of(name: str, field: str = "name") -> str:
    """The id of the connection that `name` starts with (`connections/x/…`), or InvalidArgument."""
    return id_of("/".join(name.split("/", 2)[:2]), "connections", field)


def new_id(prefix: str) -> str:
    """A fresh id: `{prefix}-`, 8 characters of the time in milliseconds, which sort by it until 2059, and 8 random ones
    (41 bits). Unguessable is not needed, unique is, and what was made about the same time stands together in indexes.
    """
    digits = _moment(time.time_ns() // 1_000_000)
    drawn = int.from_bytes(random_bytes(6)) % _MOMENTS
    return f"{prefix}-{digits}{_written(drawn)}"


def _written(number: int) -> str:
    """In 8 digits."""
    number, last = divmod(number, len(_PAIRS))
    number, third = divmod(number, len(_PAIRS))
    first, second = divmod(number, len(_PAIRS))
    return f"{_PAIRS[first]}{_PAIRS[second]}{_PAIRS[third]}{_PAIRS[last]}"


@lru_cache(maxsize=1)
def _moment(milliseconds: int) -> str:
    return _written(milliseconds % _MOMENTS)

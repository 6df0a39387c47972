"""Page sizes and page tokens of the List methods (AIP-158).

A token is the key of the last row given out, with a digest of what was asked, in base64: opaque to clients, and
refused when it comes back with another filter or order. It holds nothing secret and is not signed: a forged one only
starts a page elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypersdk.errors import FieldViolation, InvalidArgument

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
_DIGEST_CHARACTERS = 16

T = TypeVar("T")


def page_size(asked: int) -> int:
    """What 0 stands for, and never more than the greatest."""
    return min(asked, MAX_PAGE_SIZE) if asked > 0 else DEFAULT_PAGE_SIZE


def token(key: Sequence[float | int | str], *asked: str) -> str:
    """The token of the row with `key`, in the list that `asked` (method, filter, order) describes."""
    return base64.urlsafe_b64encode(json.dumps([_digest(asked), *key]).encode()).decode().rstrip("=")


def key_of(text: str, types: Sequence[type], *asked: str) -> tuple[Any, ...] | None:
    """The key in a token, its parts being of `types`; None for the first page. Raises InvalidArgument
    (PAGE_TOKEN_INVALID)."""
    if not text:
        return None
    try:
        digest, *key = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, TypeError, RecursionError):
        raise _invalid() from None
    fits = len(key) == len(types) and all(_is(part, of) for part, of in zip(key, types, strict=True))
    if digest != _digest(asked) or not fits:
        raise _invalid()
    return tuple(key)


def cut(rows: Sequence[T], size: int, token_of: Callable[[T], str]) -> tuple[Sequence[T], str]:
    """A page of `size` out of up to `size` + 1 rows, and the token of the next page or "" at the end."""
    if len(rows) <= size:
        return rows, ""
    return rows[:size], token_of(rows[size - 1])


def _is(part: Any, of: type) -> bool:
    return isinstance(part, int | float if of is float else of) and not isinstance(part, bool)


def _digest(asked: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _invalid() -> InvalidArgument:
    rule = "must be a next_page_token of the same list with the same filter and order; start again without one"
    return InvalidArgument(
        f"page_token {rule}", reason="PAGE_TOKEN_INVALID", violations=(FieldViolation("page_token", rule),)
    )

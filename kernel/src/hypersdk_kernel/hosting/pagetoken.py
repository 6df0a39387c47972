"""Page tokens of merged lists: where in which source to go on. Opaque to clients and checked when they come back.

A token says nothing that the client could not ask for by itself, so it is guarded against mix-ups and damage, not
signed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from hypersdk.errors import FieldViolation, Internal, InvalidArgument

MAX_TOKEN_CHARACTERS = 4096
"""As the protos allow `page_token`."""

_CHECK_BYTES = 8
_MARK = "~"
_MAX_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Cursor:
    """The next item of a merged list: the source it is in, that source's own token, how many items of its page are
    used up already, and the page size that makes its pages the same again."""

    source: str
    token: str = ""
    skip: int = 0
    page_size: int = 0


def encode(cursor: Cursor, scope: str) -> str:
    """`scope`: the method and the rest of the request, in which alone the token is good. Raises Internal
    (PAGE_TOKEN_TOO_LONG)."""
    row = [cursor.source, cursor.token, cursor.skip, cursor.page_size]
    body = json.dumps(row, separators=(",", ":")).encode()
    text = base64.urlsafe_b64encode(_check(body, scope) + body).decode().rstrip("=")
    if len(text) > MAX_TOKEN_CHARACTERS:
        raise Internal(
            f"{cursor.source} gave a page token too long to be passed on; list it by itself",
            reason="PAGE_TOKEN_TOO_LONG",
        )
    return text


def decode(text: str, scope: str) -> Cursor:
    """Raises InvalidArgument (PAGE_TOKEN_INVALID)."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise _invalid() from None
    check, body = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if check != _check(body, scope):
        raise _invalid()
    source, token, skip, page_size = json.loads(body)
    return Cursor(source, token, skip, page_size)


def mark(number: int, token: str) -> str:
    """A plugin's own token, with the generation that is to have it back while it serves; 0: whichever is active, of
    which the token itself says enough, but where it is empty or looks like a mark. Raises Internal
    (PAGE_TOKEN_TOO_LONG)."""
    if not number and token and not token.startswith(_MARK):
        return token
    marked = f"{_MARK}{number}{_MARK}{token}"
    if len(marked) > MAX_TOKEN_CHARACTERS:
        raise Internal(f"generation {number} gave a page token too long to be passed on", reason="PAGE_TOKEN_TOO_LONG")
    return marked


def unmark(token: str) -> tuple[int | None, str]:
    """The generation (None: any) and the token that `mark` was given. Raises InvalidArgument (PAGE_TOKEN_INVALID)."""
    if not token:
        return None, token
    if not token.startswith(_MARK):
        return 0, token
    number, found, theirs = token[len(_MARK) :].partition(_MARK)
    if not found or not number.isascii() or not number.isdigit() or len(number) > _MAX_DIGITS:
        raise _invalid()
    return int(number), theirs


def _check(body: bytes, scope: str) -> bytes:
    return hashlib.sha256(scope.encode() + b"\0" + body).digest()[:_CHECK_BYTES]


def _invalid() -> InvalidArgument:
    rule = "must be the next_page_token of a call with the same other fields"
    return InvalidArgument(
        f"page_token {rule}", reason="PAGE_TOKEN_INVALID", violations=(FieldViolation("page_token", rule),)
    )

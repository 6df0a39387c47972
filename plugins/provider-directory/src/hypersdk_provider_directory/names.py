"""File names, which may be any bytes, as resource ids and as page tokens (as text for people: hypersdk.data.ovf.names).

An id depends on the file's name alone, so it stays the same whatever other files come and go. Where turning
the name into an id lost something, a hash of the exact name follows, so two names never share an id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re

from hypersdk.errors import FieldViolation, InvalidArgument

ID = re.compile(r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")
_MAX_ID = 63
_HASH_DIGITS = 12
"""48 bits: among 10,000 names whose slugs are all alike, two meet with a chance of 2 in 10 million."""
_PAGE_MARK = b"1:"


def resource_id(name: str, suffix: str = "") -> str:
    """An id for `name`, which may end in `.suffix` in any case: `web01.qcow2` is `web01-qcow2`, `Web
    01.qcow2` is `web-01-qcow2-<hash>`. A hash is longer than any suffix, so the two kinds never meet."""
    tail = f"-{suffix}" if suffix else ""
    stem = name[: len(name) - len(tail)]
    if ID.match(stem + tail) and name == stem + tail.replace("-", ".", 1):
        return stem + tail
    slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"m-{slug}".rstrip("-")
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_HASH_DIGITS]
    room = _MAX_ID - len(tail) - len(digest) - 1
    return f"{slug[:room].rstrip('-')}{tail}-{digest}"


def page_token(last_name: str) -> str:
    return base64.urlsafe_b64encode(_PAGE_MARK + os.fsencode(last_name)).decode()


def parse_page_token(token: str) -> bytes:
    """The name, as bytes, after which the page starts; empty for the first. Raises InvalidArgument
    (PAGE_TOKEN_INVALID)."""
    if not token:
        return b""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if not raw.startswith(_PAGE_MARK):
        raise InvalidArgument(
            "the page token is not one of this list; start again without it",
            reason="PAGE_TOKEN_INVALID",
            violations=(FieldViolation("page_token", "must come from the answer to the same list request"),),
        )
    return raw.removeprefix(_PAGE_MARK)

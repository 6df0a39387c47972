"""Names in packages: which are plain, and how to show any of them to people.

A package may name only files of its own, so a name is one plain component: no path, no link, no URL.
"""

from __future__ import annotations

import os
import re

from hypersdk.errors import PermissionDenied

MAX_NAME = 255
"""Bytes of a file name, as file systems have it."""


def is_plain(name: str) -> bool:
    """Is `name` one plain file name, wherever it may be written to?"""
    return (
        name not in {"", ".", ".."}
        and not any(c in name for c in "/\\\0")
        and "://" not in name
        and len(os.fsencode(name)) <= MAX_NAME
    )


def plain_name(what: str, href: str) -> str:
    """`href` if it is a plain file name; PermissionDenied (REFERENCE_REFUSED) otherwise. `what` names the package."""
    try:
        plain = is_plain(href)
    except UnicodeEncodeError:  # lone surrogates, which no file name decodes to
        plain = False
    if not plain:
        raise refused(what, href, "is not a plain file name in the package")
    return href


def refused(what: str, name: str, why: str) -> PermissionDenied:
    return PermissionDenied(
        f"{what} names {name[:80]!r}, which {why}; such references are never followed",
        reason="REFERENCE_REFUSED", metadata={"name": printable(name[:MAX_NAME])},
    )  # fmt: skip


def printable(name: str) -> str:
    """The name for people and JSON: what is not printable (control and bidirectional marks, bytes that are no
    UTF-8) is written as an escape, a backslash as two, so no two names look the same."""
    return "".join(_escape(c) for c in name)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def file_stem(name: str, default: str = "machine") -> str:
    """A file name, without its extension, for whatever somebody called a machine: ASCII letters, digits, `.`, `_`, `-`,
    no dot at either end, at most 60 bytes."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:60].strip(".-")
    return stem or default

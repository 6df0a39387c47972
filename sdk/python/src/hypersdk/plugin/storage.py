"""Storage: the contract of `hypersdk.storage` plugins: a place for objects.

Keys are relative POSIX paths (`exports/web01/disk-0.qcow2`): 1–1024 bytes of UTF-8, no empty, `.` or `..` component,
no
backslash, no control character. An implementation checks them with `check_key` before use.

Duties: an object appears under its key whole or not at all (`commit`); `delete` of what is not there succeeds;
`stat` after
`commit` sees the object. Every method is safe to repeat.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypersdk.errors import FieldViolation, InvalidArgument, Unsupported
from hypersdk.plugin.provider import Health, Page


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`etag` changes whenever the content does. `modified_s`: seconds since the epoch, UTC."""

    key: str
    size_bytes: int
    modified_s: float
    etag: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


def check_key(key: str) -> str:
    """The key itself, or InvalidArgument (OBJECT_KEY_INVALID) that says what is wrong with it."""
    problem = ""
    if not key:
        problem = "is empty"
    elif len(key.encode("utf-8", "surrogatepass")) > 1024:
        problem = "is longer than 1024 bytes"
    elif any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in key) or "\\" in key:
        problem = "holds a control character, a lone surrogate or a backslash"
    elif any(part in {"", ".", ".."} for part in key.split("/")):
        problem = "has an empty, '.' or '..' component"
    elif any(len(part.encode()) > 255 for part in key.split("/")):
        problem = "has a component longer than 255 bytes"
    if problem:
        raise InvalidArgument(
            f"object key {key[:80]!r} {problem}; use a relative path such as 'exports/web01/disk-0.qcow2'",
            reason="OBJECT_KEY_INVALID",
            violations=(FieldViolation("key", problem),),
        )
    return key


class ObjectWriter(abc.ABC):
    """One object in the making. Its life: `write` in order, or the file at `staging_path`; then exactly one of
    `commit` and `abort`. Nobody sees the object before `commit` returned."""

    @property
    def staging_path(self) -> Path | None:
        """A plain local file that becomes the object on commit, which may be written in any order instead of
        calling `write`. None where the storage has no such file."""
        return None

    @property
    def token(self) -> str:
        """Opaque; `open_writer(key, resume=token)` in another process goes on with what was written. Empty:
        cannot."""
        return ""

    @abc.abstractmethod
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises ResourceExhausted (DISK_FULL), Unavailable."""

    @abc.abstractmethod
    def commit(self, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Make the object durable and visible. Raises AlreadyExists when it was opened with `if_absent`."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop what was written. Idempotent; never raises for a storage that is away."""


class Storage(abc.ABC):
    """A place for objects, opened for one connection."""

    @abc.abstractmethod
    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """(CR) As Provider.configure."""

    @abc.abstractmethod
    def health(self) -> Health:
        """(C) Can it be reached, and written to if it is meant to be?"""

    @abc.abstractmethod
    def open_writer(self, key: str, *, if_absent: bool = False, resume: str = "") -> ObjectWriter:
        """(R) Begin an object. `resume`: a token of an earlier writer; NotFound (UPLOAD_GONE) when it has gone."""

    @abc.abstractmethod
    def read_range(self, key: str, offset: int, length: int) -> bytes:
        """(R) Exactly [offset, offset+length). Raises NotFound, OutOfRange past the end."""

    @abc.abstractmethod
    def stat(self, key: str) -> ObjectInfo:
        """(CR) Raises NotFound (OBJECT_NOT_FOUND)."""

    @abc.abstractmethod
    def list(self, prefix: str, page_size: int, page_token: str) -> Page[ObjectInfo]:
        """(CR) Objects whose key starts with `prefix` (may be empty), in order of key. Unfinished ones are not
        listed."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """(CR) Gone afterwards, whether or not it was there."""

    def local_path(self, key: str) -> Path | None:
        """(R) The object as a plain local file for reading, or None."""
        return None

    def usage(self) -> Mapping[str, int]:
        """(C) `used_bytes`, `free_bytes`, `object_count`; -1 where the storage cannot tell cheaply."""
        raise Unsupported("this storage does not report usage", reason="USAGE_UNSUPPORTED")

    def cleanup(self, record: Mapping[str, Any]) -> None:
        """(R) Drop what a dead runner left unfinished. Idempotent."""

    def close(self) -> None:
        """(CR) Idempotent."""

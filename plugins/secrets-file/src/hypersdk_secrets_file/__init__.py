"""secrets/file: a directory of files, one a secret, each readable by its owner only.

The way to a file is opened name by name, below the directory's descriptor and without following a symbolic link, so
that no path leads out of the directory, whatever is changed in it meanwhile. Not here: writing and encrypting secrets.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import Any

from hypersdk.errors import (
    FailedPrecondition,
    HyperError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    from_exception,
)
from hypersdk.plugin import Health, Secret, SecretSource

__all__ = ["FileSecrets"]

MAX_BYTES = 64 << 10
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class FileSecrets(SecretSource):
    """Holds nothing but its configuration: the directory is opened for each call, so one that is mounted later, or
    mounted anew, is found."""

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:  # noqa: ARG002 - it has none
        self._path = str(config["path"])
        self._ttl_s = float(config.get("ttl_s", 60))

    def health(self) -> Health:
        began = time.monotonic()
        try:
            os.close(self._open_directory())
        except HyperError as exc:
            return Health(False, exc.message)
        return Health(True, latency_s=time.monotonic() - began)

    def resolve(self, ref: str) -> Secret:
        """Raises what SecretSource.resolve says, and PermissionDenied (SECRET_FILE_OPEN_TO_OTHERS)."""
        *folders, name = _parts(ref)
        fd = self._open_directory()
        try:
            for folder in folders:
                fd = _step(fd, folder, _DIRECTORY, ref)
            fd = _step(fd, name, _FILE, ref)
            return Secret(_text(fd, ref), self._ttl_s)
        finally:
            os.close(fd)

    def _open_directory(self) -> int:
        try:
            fd = os.open(self._path, _DIRECTORY & ~os.O_NOFOLLOW)
        except OSError as exc:
            raise Unavailable(
                f"the directory of secrets {self._path} cannot be opened: {exc.strerror}",
                reason="SECRET_SOURCE_UNAVAILABLE",
            ) from exc
        mode = os.fstat(fd).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            os.close(fd)
            raise PermissionDenied(
                f"others may write to the directory of secrets {self._path}; chmod go-w it",
                reason="SECRET_FILE_OPEN_TO_OTHERS",
            )
        return fd


def _parts(ref: str) -> list[str]:
    parts = ref.split("/")
    if not ref or "\0" in ref or any(part in {"", ".", ".."} or len(os.fsencode(part)) > 255 for part in parts):
        raise InvalidArgument(
            f"{ref[:120]!r} is no path of a secret; write names joined by '/', without '.', '..' and a leading '/'",
            reason="SECRET_PATH_INVALID",
        )
    return parts


def _step(parent: int, name: str, flags: int, ref: str) -> int:
    """Open `name` in `parent`, which is closed when that succeeds: there is one descriptor to close at any time."""
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(f"there is no secret {ref[:120]!r}", reason="SECRET_NOT_FOUND") from exc
    except OSError as exc:  # a symbolic link among them
        raise from_exception(exc, doing=f"opening the secret {ref[:120]!r}") from exc
    os.close(parent)
    return fd


def _text(fd: int, ref: str) -> str:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise NotFound(f"{ref[:120]!r} is no plain file", reason="SECRET_NOT_FOUND")
    if found.st_mode & _OPEN_TO_OTHERS or found.st_uid not in {0, os.geteuid()}:
        raise PermissionDenied(
            f"the file of {ref[:120]!r} may be read by others than its owner, or belongs to somebody else; chown it to "
            "the daemon's user and chmod 600 it",
            reason="SECRET_FILE_OPEN_TO_OTHERS",
        )
    data = b""
    while len(data) <= MAX_BYTES and (more := os.read(fd, MAX_BYTES + 1 - len(data))):
        data += more
    if len(data) > MAX_BYTES:
        raise FailedPrecondition(f"the file of {ref[:120]!r} is larger than {MAX_BYTES} bytes")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise FailedPrecondition(f"the file of {ref[:120]!r} is not UTF-8 text") from None

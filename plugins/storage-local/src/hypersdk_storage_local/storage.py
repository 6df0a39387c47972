"""LocalStorage: objects are plain files below `path`, and nothing else is there but `.hypersdk-uploads/`.

A key is the file's relative path. Whoever mounts or copies the directory has the objects without any
software of ours. Objects and directories are made readable by their owner only.
"""

from __future__ import annotations

import errno
import os
import re
import secrets as random
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from hypersdk.errors import FieldViolation, HyperError, InvalidArgument, NotFound, OutOfRange, from_exception
from hypersdk.plugin import Health, ObjectInfo, Page, Storage
from hypersdk.plugin.storage import check_key

from hypersdk_storage_local.listing import UPLOADS, info_of, make_page_token, parse_page_token, walk
from hypersdk_storage_local.tree import Tree, is_missing, link_refused, os_errors
from hypersdk_storage_local.writer import LocalWriter, remove_upload

_TOKEN = re.compile(r"^[0-9a-f]{32}$")
_DEFAULT_PAGE = 50
_MAX_PAGE = 1000


class LocalStorage(Storage):
    """Stateless between calls and thread-safe; every operation opens what it needs and closes it."""

    _tree: Tree

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:  # noqa: ARG002 has no secrets
        path = config.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
            raise InvalidArgument(
                "storage/local needs `path`, the absolute path of a directory",
                reason="CONFIG_INVALID",
                violations=(FieldViolation("config.path", "must be an absolute path"),),
            )
        self._tree = Tree(Path(path), create=config.get("create") is True)

    def health(self) -> Health:
        start = time.monotonic()
        details = {"path": str(self._tree.root)}
        try:
            with self._tree.directory([]) as fd:
                writable = os.access(".", os.W_OK | os.X_OK, dir_fd=fd) and not os.fstatvfs(fd).f_flag & os.ST_RDONLY
        except (HyperError, OSError) as exc:
            return Health(False, from_exception(exc).message, time.monotonic() - start, details)
        message = "" if writable else f"{str(self._tree.root)!r} is not writable for the daemon's user"
        return Health(writable, message, time.monotonic() - start, details)

    def open_writer(self, key: str, *, if_absent: bool = False, resume: str = "") -> LocalWriter:
        _check(key)
        if resume and not _TOKEN.match(resume):
            raise InvalidArgument("the resume token is not one of this storage", reason="UPLOAD_TOKEN_INVALID")
        token = resume or random.token_hex(16)
        return LocalWriter(self._tree, key, token, if_absent=if_absent, resume=bool(resume))

    def read_range(self, key: str, offset: int, length: int) -> bytes:
        with os_errors(f"reading object {key!r}"), self._open(key) as fd:
            size = os.fstat(fd).st_size
            if offset < 0 or length < 0 or offset + length > size:
                raise OutOfRange(
                    f"object {key!r} has {size} bytes; [{offset}, {offset + length}) is past its end",
                    reason="RANGE_PAST_END", metadata={"key": key, "size": str(size)},
                )  # fmt: skip
            buffer = bytearray(length)
            view, done = memoryview(buffer), 0
            while done < length:
                count = os.preadv(fd, [view[done:]], offset + done)
                if count == 0:
                    raise OutOfRange(f"object {key!r} was cut short while being read", reason="RANGE_PAST_END")
                done += count
            return bytes(buffer)

    def stat(self, key: str) -> ObjectInfo:
        with os_errors(f"looking at object {key!r}"), self._open(key) as fd:
            return info_of(key, os.fstat(fd))

    def list(self, prefix: str, page_size: int, page_token: str) -> Page[ObjectInfo]:
        count = min(page_size, _MAX_PAGE) if page_size > 0 else _DEFAULT_PAGE
        after = parse_page_token(page_token, prefix)
        found = [*islice(walk(self._tree, prefix, after, count + 1), count + 1)]
        more = len(found) > count
        return Page(found[:count], make_page_token(found[count - 1].key) if more else "")

    def delete(self, key: str) -> None:
        """Directories that become empty by it go too, so a tree of old exports does not stay behind as
        folders."""
        _check(key)
        parts = key.split("/")
        with os_errors(f"deleting object {key!r}"):
            try:
                with self._tree.parent_of(key) as (folder, name):
                    os.unlink(name, dir_fd=folder)
                    os.fsync(folder)
                for depth in range(len(parts) - 1, 0, -1):
                    with self._tree.directory(parts[: depth - 1]) as above:
                        os.rmdir(parts[depth - 1], dir_fd=above)
            except IsADirectoryError:
                return  # a folder of objects is no object, so there is none under this key
            except OSError as exc:
                # ENOTEMPTY ends the pruning: other objects live there.
                if not is_missing(exc) and exc.errno != errno.ENOTEMPTY:
                    raise

    def local_path(self, key: str) -> Path | None:
        with os_errors(f"looking at object {key!r}"), self._open(key):
            return self._tree.root / key

    def usage(self) -> Mapping[str, int]:
        """Of the file system that holds the directory: what other files on it use is counted in."""
        with os_errors("asking the file system for its space"), self._tree.directory([]) as fd:
            space = os.fstatvfs(fd)
        return {
            "used_bytes": (space.f_blocks - space.f_bfree) * space.f_frsize,
            "free_bytes": space.f_bavail * space.f_frsize,
            "object_count": -1,
        }

    def cleanup(self, record: Mapping[str, Any]) -> None:
        """`record["upload"]` is the token of a writer that died."""
        token = record.get("upload")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise InvalidArgument("the record names no upload of this storage", reason="UPLOAD_TOKEN_INVALID")
        remove_upload(self._tree, token)

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        """The object's file for reading. OSErrors other than its absence pass through."""
        _check(key)
        try:
            with self._tree.parent_of(key) as (folder, name):
                fd = _open_file(folder, name)
        except OSError as exc:
            if is_missing(exc):
                raise NotFound(f"no object {key!r}", reason="OBJECT_NOT_FOUND", metadata={"key": key}) from exc
            raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotFound(f"{key!r} is not an object", reason="OBJECT_NOT_FOUND", metadata={"key": key})
            yield fd
        finally:
            os.close(fd)


def _open_file(folder: int, name: str) -> int:
    """O_NONBLOCK: opening a FIFO that lies there must not wait for a writer."""
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise link_refused(name) from exc
        raise


def _check(key: str) -> None:
    check_key(key)
    if key.split("/", 1)[0] == UPLOADS:
        raise InvalidArgument(
            f"keys below {UPLOADS!r} are kept for unfinished objects; choose another key",
            reason="OBJECT_KEY_RESERVED",
            violations=(FieldViolation("key", f"must not begin with {UPLOADS}"),),
        )

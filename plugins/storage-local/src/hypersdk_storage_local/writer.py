"""LocalWriter: one object in the making.

Its life: named by a random token at once; the partial file `.hypersdk-uploads/<token>` is made by the first
`write` or the first look at `staging_path`, so whoever keeps records can note the token before anything
exists; `commit` syncs the file, moves it under its key in one step and syncs the directory; `abort` removes
it. A writer that is merely dropped leaves its partial for a later `open_writer(key, resume=token)` or
`cleanup`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from hypersdk.errors import (
    AlreadyExists,
    FailedPrecondition,
    HyperError,
    NotFound,
    Unsupported,
    from_exception,
)
from hypersdk.plugin import ObjectInfo, ObjectWriter

from hypersdk_storage_local.listing import UPLOADS, info_of
from hypersdk_storage_local.tree import FILE_MODE, Tree, is_missing, os_errors

_RENAME_TRIES = 5
"""A concurrent delete may remove the key's directory, just emptied, between our making it and our using
it."""


class LocalWriter(ObjectWriter):
    """Not thread-safe: one thread writes an object."""

    def __init__(self, tree: Tree, key: str, token: str, *, if_absent: bool, resume: bool) -> None:
        self._tree = tree
        self._key = key
        self._token = token
        self._if_absent = if_absent
        self._fd = -1
        self._made = False
        self._aborted = False
        self._done: ObjectInfo | None = None
        if resume:
            self._open(os.O_RDWR)

    @property
    def staging_path(self) -> Path:
        self._make()
        return self._tree.root / UPLOADS / self._token

    @property
    def token(self) -> str:
        return self._token

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._make()
        view = memoryview(data).cast("B")
        done = 0
        with os_errors(f"writing object {self._key!r}"):
            while done < len(view):
                done += os.write(self._fd, view[done:])

    def commit(self, metadata: Mapping[str, str] | None = None) -> ObjectInfo:  # noqa: ARG002 see below
        """`metadata` is not kept: plain files have nowhere portable for it (no `metadata` capability)."""
        if self._done is not None:
            return self._done
        self._make()
        with os_errors(f"committing object {self._key!r}"):
            os.fsync(self._fd)
            for _ in range(_RENAME_TRIES - 1):
                try:
                    return self._finish()
                except FileNotFoundError:
                    continue
            return self._finish()

    def abort(self) -> None:
        if self._done is not None:
            return
        self._aborted = True
        self._close()
        try:
            remove_upload(self._tree, self._token)
        except HyperError:
            return  # the storage is away; the token is on record and cleanup() removes the partial later

    def _make(self) -> None:
        if self._done is not None or self._aborted:
            raise FailedPrecondition(
                f"the writer of {self._key!r} was committed or aborted; open another",
                reason="UPLOAD_FINISHED",
            )
        if not self._made:
            self._open(os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def _open(self, flags: int) -> None:
        try:
            with (
                os_errors("opening an unfinished object"),
                self._tree.directory([UPLOADS], create=True) as fd,
            ):
                found = flags | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                self._fd = os.open(self._token, found, FILE_MODE, dir_fd=fd)
        except NotFound as exc:
            raise NotFound(
                f"the unfinished upload of {self._key!r} has gone; begin it again",
                reason="UPLOAD_GONE", metadata={"key": self._key},
            ) from exc  # fmt: skip
        self._made = True

    def _finish(self) -> ObjectInfo:
        self._done = self._publish()
        self._close()
        return self._done

    def _publish(self) -> ObjectInfo:
        try:
            with (
                self._tree.directory([UPLOADS]) as uploads,
                self._tree.parent_of(self._key, create=True) as place,
            ):
                return self._move(uploads, *place)
        except NotADirectoryError as exc:
            raise _key_conflict(self._key) from exc

    def _move(self, uploads: int, folder: int, name: str) -> ObjectInfo:
        self._check_staged(uploads)
        try:
            if self._if_absent:
                os.link(self._token, name, src_dir_fd=uploads, dst_dir_fd=folder, follow_symlinks=False)
                os.unlink(self._token, dir_fd=uploads)
            else:
                os.rename(self._token, name, src_dir_fd=uploads, dst_dir_fd=folder)
        except FileNotFoundError:
            raise  # commit() tries again
        except OSError as exc:
            raise self._refusal(exc) from exc
        os.fsync(folder)
        return info_of(self._key, os.fstat(self._fd))

    def _check_staged(self, uploads: int) -> None:
        """What is published must be the very file that was synced, not one put in its place."""
        named = os.stat(self._token, dir_fd=uploads, follow_symlinks=False)
        if not stat.S_ISREG(named.st_mode) or not os.path.samestat(named, os.fstat(self._fd)):
            raise FailedPrecondition(
                f"the staged file of {self._key!r} was replaced by another; write into it, never rename over it",
                reason="OBJECT_NOT_A_FILE",
            )

    def _refusal(self, exc: OSError) -> HyperError:
        if exc.errno == errno.EEXIST:
            return AlreadyExists(
                f"object {self._key!r} exists; delete it or choose another key",
                reason="OBJECT_EXISTS", metadata={"key": self._key},
            )  # fmt: skip
        if exc.errno in {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY}:
            return _key_conflict(self._key)
        if self._if_absent and exc.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            return Unsupported(
                "the file system has no hard links, so an object cannot be made only if absent",
                reason="CONDITIONAL_CREATE_UNSUPPORTED",
            )
        return from_exception(exc, doing=f"committing object {self._key!r}")

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _key_conflict(key: str) -> FailedPrecondition:
    """In a file tree `a` and `a/b` cannot both be objects."""
    return FailedPrecondition(
        f"object {key!r} cannot be: a leading component of it is an object, or it is a folder; "
        "choose another key",
        reason="OBJECT_KEY_CONFLICT", metadata={"key": key},
    )  # fmt: skip


def remove_upload(tree: Tree, token: str) -> None:
    """Remove a partial; nothing to do when it is not there."""
    try:
        with tree.directory([UPLOADS]) as uploads:
            os.unlink(token, dir_fd=uploads)
    except OSError as exc:
        if not is_missing(exc):
            raise from_exception(exc, doing="removing an unfinished object") from exc

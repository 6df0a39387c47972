"""Directories and files below a root, reached without ever following a symbolic link.

Every component of a key is opened relative to the descriptor of the one above it with O_NOFOLLOW, so
whatever somebody plants below the root between two calls, no operation leaves it. The root itself is the
user's word and may be reached through links.

Not here: what an object is, unfinished objects, listing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hypersdk.errors import FailedPrecondition, HyperError, PermissionDenied, from_exception

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def os_errors(doing: str) -> Iterator[None]:
    """OSErrors of the block as errors of our tree; a full disk becomes ResourceExhausted (DISK_FULL)."""
    try:
        yield
    except OSError as exc:
        raise from_exception(exc, doing=doing) from exc


class Tree:
    """The files below `root`. Holds no descriptor between calls, so a share that is unmounted and mounted
    again is found again. Thread-safe."""

    def __init__(self, root: Path, *, create: bool) -> None:
        self.root = root
        self._create = create

    def open_root(self) -> int:
        """A descriptor of the root, the caller's to close. Raises FailedPrecondition (STORAGE_PATH_MISSING,
        STORAGE_PATH_NOT_DIRECTORY), PermissionDenied."""
        try:
            return os.open(self.root, _DIRECTORY)
        except FileNotFoundError as exc:
            if not self._create:
                raise FailedPrecondition(
                    f"the storage's directory {str(self.root)!r} is not there; make it, mount it, or set "
                    "create: true",
                    reason="STORAGE_PATH_MISSING", metadata={"path": str(self.root)},
                ) from exc  # fmt: skip
        except NotADirectoryError as exc:
            raise FailedPrecondition(
                f"{str(self.root)!r} is not a directory; correct the connection's path",
                reason="STORAGE_PATH_NOT_DIRECTORY", metadata={"path": str(self.root)},
            ) from exc  # fmt: skip
        except OSError as exc:
            raise from_exception(exc, doing="opening the storage's directory") from exc
        with os_errors("making the storage's directory"):
            self.root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            return os.open(self.root, _DIRECTORY)

    @contextmanager
    def directory(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the directory `parts` below the root while the block runs. `create`: make what is
        missing and sync each directory that gained an entry. OSErrors of the walk pass through."""
        fd = self.open_root()
        try:
            for part in parts:
                below = _step(fd, part, create=create)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def parent_of(self, key: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The directory that holds `key`'s file, and the file's name in it."""
        *parts, name = key.split("/")
        with self.directory(parts, create=create) as fd:
            yield fd, name


def _step(fd: int, part: str, *, create: bool) -> int:
    try:
        return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    except FileNotFoundError:
        if not create:
            raise
    except NotADirectoryError as exc:
        # Linux answers ENOTDIR, not ELOOP, for O_DIRECTORY|O_NOFOLLOW on a symbolic link.
        if stat.S_ISLNK(os.lstat(part, dir_fd=fd).st_mode):
            raise link_refused(part) from exc
        raise
    try:
        os.mkdir(part, DIRECTORY_MODE, dir_fd=fd)
        os.fsync(fd)
    except FileExistsError:
        pass  # somebody made it at the same moment, which is as good
    return os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)


def link_refused(name: str) -> HyperError:
    return PermissionDenied(
        f"{name!r} is a symbolic link; links below the storage's directory are never followed",
        reason="SYMBOLIC_LINK_REFUSED", metadata={"name": name},
    )  # fmt: skip


def is_missing(exc: OSError) -> bool:
    """Does the error say that there is no such file (a file where a directory should be counts as that)?"""
    return exc.errno in {errno.ENOENT, errno.ENOTDIR}

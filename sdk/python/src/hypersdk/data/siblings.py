"""NewSiblings: the further files of an image that is being made, for formats that write more than one.

Its life: made beside the unfinished main file, `create` for each sibling that the format wants, then `publish` when all
are complete and synced, just before the main file gets its own name, and `tidy` after that; or `discard`. Until then
each bears the unfinished main file's hidden name with a number behind it, so that whoever finds that file of a dead
process finds them too (`drop_leftovers`). The main file, its name, its lock and its state are the caller's.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import AlreadyExists, InvalidArgument

MAX_SIBLINGS = 9999
"""Of one image. VMDK, which has most, needs one for each 2 GiB."""


class NewSiblings:
    """Not thread-safe.

    partial    the unfinished main file
    target     the name that it will get; siblings get theirs in the same directory
    overwrite  may siblings replace files that have their names?
    protected  a file that must never be replaced: the source of the copy
    """

    def __init__(self, partial: Path, target: Path, *, overwrite: bool, protected: Path | None = None) -> None:
        self._partial = partial
        self._target = target
        self._overwrite = overwrite
        self._protected = protected
        self._names: list[str] = []
        self._linked: list[Path] = []

    @property
    def names(self) -> tuple[str, ...]:
        """The siblings' final names, in the order in which they were made."""
        return tuple(self._names)

    @property
    def aliases(self) -> dict[str, str]:
        """Final name → the name that it has until `publish`: for reading the unfinished image back."""
        return {name: self._hidden(name).name for name in self._names}

    def create(self, name: str, *, resume: bool = False) -> ImageFile:
        """A new, empty sibling, or with `resume` the one that a dead process left. `name` is plain: ImageFile saw to
        that. Raises AlreadyExists (TARGET_EXISTS), InvalidArgument (SAME_FILE, TARGET_NOT_A_FILE, SIBLING_INVALID, and
        RESUME_STATE_INVALID when the one to resume has gone), OSError."""
        if name == self._target.name or name in self._names or len(self._names) >= MAX_SIBLINGS:
            raise InvalidArgument(
                f"{self._target.name}: a file {name!r} beside it is the image itself, is made already, or is more than "
                f"the {MAX_SIBLINGS} that an image may have",
                reason="SIBLING_INVALID",
            )
        self._names.append(name)
        hidden = self._hidden(name)
        self._check_final(name, hidden)
        if not resume:
            hidden.unlink(missing_ok=True)
        try:
            file = ImageFile.create(hidden, resume=resume)
        except FileNotFoundError as exc:
            if not resume:
                raise
            raise self._gone(name) from exc
        file.path = self._final(name)
        return file

    def adopt(self, names: Sequence[str]) -> bool:
        """Take over complete siblings that an earlier process left, in their order. False, and nothing is taken over:
        some are no longer there."""
        self._names = list(names)
        if all(self._hidden(name).is_file() for name in self._names):
            return True
        self._names = []
        return False

    def publish(self) -> None:
        """Give all their names, the last one first, and make that durable. The main file must get its own next; until
        then `withdraw` takes back what has replaced nothing. They get the permissions of the
        unfinished main file. Raises FileExistsError when somebody took a name that must not be overwritten, OSError."""
        if not self._names:
            return
        mode = stat.S_IMODE(self._partial.stat().st_mode)
        for name in self._names:
            with suppress(FileNotFoundError):  # an earlier attempt may have moved it
                self._hidden(name).chmod(mode)
        if self._overwrite and any(self._final(name).exists() for name in self._names):
            # An old main file over some new siblings would read as wrong bytes if we died now; none reads as none.
            self._target.unlink(missing_ok=True)
            sync_directory(self._target.parent)
        for name in reversed(self._names):
            if self._overwrite:
                self._hidden(name).replace(self._final(name))
            elif not _same_file(self._hidden(name), self._final(name)):
                link_or_rename(self._hidden(name), self._final(name))
                self._linked.append(self._final(name))
        sync_directory(self._target.parent)

    def withdraw(self) -> None:
        """Take the names back that `publish` gave in this process without replacing anything."""
        while self._linked:
            self._linked.pop().unlink(missing_ok=True)

    def tidy(self) -> None:
        """The image is published: drop the hidden names, the last one first."""
        self._linked.clear()
        drop_leftovers(self._partial)

    def discard(self) -> None:
        """Drop all siblings that are not published; those may be made again."""
        self._names = []
        drop_leftovers(self._partial)

    def _hidden(self, name: str) -> Path:
        return _numbered(self._partial, self._names.index(name) + 1)

    def _final(self, name: str) -> Path:
        return self._target.with_name(name)

    def _check_final(self, name: str, hidden: Path) -> None:
        final = self._final(name)
        try:
            status = final.lstat()
        except FileNotFoundError:
            return
        if self._protected is not None and _same_file(final, self._protected):
            raise InvalidArgument(
                f"the image needs a file {str(final)!r} beside it, which is the source; choose another target",
                reason="SAME_FILE",
            )
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(
                f"the image needs a file {str(final)!r} beside it, which exists and is not a regular file",
                reason="TARGET_NOT_A_FILE", metadata={"path": str(final)},
            )  # fmt: skip
        if not self._overwrite and not _same_file(final, hidden):
            raise AlreadyExists(
                f"the image needs a file {str(final)!r} beside it, which exists; move it away or choose another target",
                reason="TARGET_EXISTS", metadata={"path": str(final)},
            )  # fmt: skip

    def _gone(self, name: str) -> InvalidArgument:
        return InvalidArgument(
            f"cannot resume {self._target.name}: the file that becomes {name!r} has gone; start anew",
            reason="RESUME_STATE_INVALID",
        )


def drop_leftovers(partial: Path) -> None:
    """Delete the siblings of the unfinished file `partial`. The last one goes first: their numbers have no gap at any
    time, which is how they are found."""
    count = next(n for n in itertools.count() if not os.path.lexists(_numbered(partial, n + 1)))
    for number in range(count, 0, -1):
        _numbered(partial, number).unlink(missing_ok=True)


def link_or_rename(hidden: Path, final: Path) -> None:
    """Give `hidden` the name `final` unless somebody has it: FileExistsError. The hidden name may stay as well."""
    try:
        os.link(hidden, final, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in {errno.EPERM, errno.EOPNOTSUPP}:
            raise
        # No hard links here (FAT, some FUSE): look, then rename, which leaves a moment for somebody else.
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from exc
        hidden.replace(final)


def sync_directory(path: Path) -> None:
    """The names in the directory are on stable storage when it returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _numbered(partial: Path, number: int) -> Path:
    return partial.with_name(f"{partial.name}.{number:04d}")


def _same_file(left: Path, right: Path) -> bool:
    try:
        return left.samefile(right)
    except OSError:
        return False

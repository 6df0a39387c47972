"""Target: the file that a conversion makes, or several, under other names until they are verified.

Its life: `begin` finds or makes `.<name>.hypersdk-<job>` in the target's own directory, `publish` gives it
the target's name in one step, `discard` deletes it. The unfinished file bears the job's id, so two jobs
never share one, and what a dead runner left can be found by its path. The further files of an image of several
(hypersdk.data.siblings) are named after it, and published before it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.siblings import NewSiblings, drop_leftovers, link_or_rename, sync_directory
from hypersdk.errors import AlreadyExists, FailedPrecondition, InvalidArgument, from_exception

_MARK = ".hypersdk-"
_MAX_NAME = 255
_SIBLING_MARK = len(".0000")


class Target:
    """One target of one job."""

    def __init__(self, path: Path, job: str, *, overwrite: bool) -> None:
        self.path = path
        suffix = f"{_MARK}{job.rpartition('/')[2]}"
        room = _MAX_NAME - len(os.fsencode(suffix)) - 1 - _SIBLING_MARK
        stem = os.fsdecode(os.fsencode(path.name)[:room])
        self.partial = path.with_name(f".{stem}{suffix}")
        self._overwrite = overwrite
        self._siblings = NewSiblings(self.partial, path, overwrite=overwrite)

    def check(self, source: Path) -> None:
        """Raises InvalidArgument (SAME_FILE, TARGET_NOT_A_FILE), AlreadyExists (TARGET_EXISTS),
        FailedPrecondition (TARGET_DIRECTORY_MISSING). Further files will be judged by the same when they are made."""
        self._siblings = NewSiblings(self.partial, self.path, overwrite=self._overwrite, protected=source)
        if not self.path.parent.is_dir():
            raise FailedPrecondition(
                f"there is no directory {str(self.path.parent)!r}; make it first",
                reason="TARGET_DIRECTORY_MISSING", metadata={"path": str(self.path.parent)},
            )  # fmt: skip
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        except OSError as exc:
            raise from_exception(exc, doing="looking at the target") from exc
        if source.exists() and os.path.samestat(status, source.stat()):
            raise InvalidArgument(
                f"source and target are both {str(self.path)!r}; choose another target", reason="SAME_FILE"
            )
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(
                f"{str(self.path)!r} exists and is not a regular file; images are written to files only",
                reason="TARGET_NOT_A_FILE",
            )
        if not self._overwrite:
            raise self._exists()

    def begin(self, *, resume: bool) -> tuple[ImageFile, bool]:
        """The unfinished file, open for writing, and whether it is the one of an earlier attempt."""
        try:
            if resume:
                with suppress(FileNotFoundError):
                    return self._with_siblings(ImageFile.create(self.partial, resume=True)), True
            self._siblings.discard()
            self.partial.unlink(missing_ok=True)
            return self._with_siblings(ImageFile.create(self.partial)), False
        except OSError as exc:
            raise from_exception(exc, doing=f"making {str(self.partial)!r}") from exc

    def _with_siblings(self, file: ImageFile) -> ImageFile:
        file.new_siblings = self._siblings
        return file

    def publish(self) -> None:
        """Give the finished, synced file its name, its siblings theirs before. Raises AlreadyExists (TARGET_EXISTS)
        when somebody took a name meanwhile and it must not be overwritten."""
        try:
            if self._overwrite:
                with suppress(FileNotFoundError):
                    self.partial.chmod(stat.S_IMODE(self.path.stat().st_mode))
            self._siblings.publish()
            if self._overwrite:
                self.partial.replace(self.path)
            else:
                link_or_rename(self.partial, self.path)
            sync_directory(self.path.parent)
        except OSError as exc:
            self._siblings.withdraw()
            if isinstance(exc, FileExistsError):
                raise self._exists() from exc
            raise from_exception(exc, doing=f"publishing {str(self.path)!r}") from exc
        self.discard()

    def discard(self) -> None:
        """Drop the hidden names; what is published stays. Idempotent."""
        with suppress(OSError):  # its directory went away or became read-only: nothing more can be done about it
            self._siblings.discard()
            self.partial.unlink(missing_ok=True)

    def record(self) -> dict[str, str]:
        """What `cleanup_record` needs to find the unfinished file."""
        return {"partial": os.fsencode(self.partial).hex()}

    def _exists(self) -> AlreadyExists:
        return AlreadyExists(
            f"{str(self.path)!r} exists; choose another target or set overwrite: true",
            reason="TARGET_EXISTS", metadata={"path": str(self.path)},
        )  # fmt: skip


def cleanup_record(record: Mapping[str, Any]) -> None:
    """Remove the unfinished file of a dead runner. Raises InvalidArgument (RECORD_INVALID) for a record
    that names anything else."""
    try:
        path = Path(os.fsdecode(bytes.fromhex(str(record["partial"]))))
    except (KeyError, ValueError) as exc:
        raise InvalidArgument("the record names no unfinished conversion", reason="RECORD_INVALID") from exc
    if not path.is_absolute() or not path.name.startswith(".") or _MARK not in path.name:
        raise InvalidArgument("the record names no unfinished conversion", reason="RECORD_INVALID")
    drop_leftovers(path)
    path.unlink(missing_ok=True)

"""ImageFile: the window of a regular file that an image format reads or writes.

Every byte that a format plugin touches goes through here, so this is where a read past the end becomes a
typed error, and where an image that names other files (VMDK extents, backing files) is held to the rule:
only plain names of regular files in the image's own directory, never a path, a link, a device, a FIFO or a
URL. Files that a format makes beside the one it was given are under the same rule.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from hypersdk.data.sink import Buffer
from hypersdk.errors import (
    FailedPrecondition,
    InvalidArgument,
    MalformedImage,
    NotFound,
    PermissionDenied,
    Unsupported,
)

if TYPE_CHECKING:
    from hypersdk.data.siblings import NewSiblings

_MAX_NAME = 255
_MAX_OFFSET = (1 << 63) - 1  # of the operating system's calls, bytes


class ImageFile:
    """[base, base+length) of one open regular file. All offsets are relative to `base`. Positional reads and
    writes are thread-safe. A window that was given no length follows the file as it grows.

    new_siblings   set by whoever made the file, if files may be made beside it
    aliases        names that other files have for now, by those that the image knows them by
    """

    def __init__(
        self, fd: int, path: Path, *, base: int = 0, length: int | None = None, writable: bool = False
    ) -> None:
        self.path = path
        self.base = base
        self.writable = writable
        self.durable = True
        self._fd = fd
        self._length = length
        self.new_siblings: NewSiblings | None = None
        self.aliases: Mapping[str, str] = {}
        self._siblings: list[ImageFile] = []
        self._is_part = length is not None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        base: int = 0,
        length: int | None = None,
        follow: bool = True,
        writable: bool = False,
    ) -> ImageFile:
        """Open an existing regular file, for reading unless `writable`. `follow`: the user named it, so a
        symbolic link is fine. Raises NotFound, PermissionDenied, InvalidArgument (NOT_A_REGULAR_FILE)."""
        mode = os.O_RDWR if writable else os.O_RDONLY
        flags = mode | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        return cls(_open_regular(Path(path), flags), Path(path), base=base, length=length, writable=writable)

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, resume: bool = False) -> ImageFile:
        """Create a new file for reading and writing (mode 0600); with `resume`, open the one that is there.
        Raises AlreadyExists or NotFound as an OSError of that errno."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (0 if resume else os.O_CREAT | os.O_EXCL)
        fd = os.open(path, flags, 0o600)
        return cls(fd, Path(path), writable=True)

    def window(self, start: int, length: int | None = None, *, name: str = "") -> ImageFile:
        """A part of this file as one of its own, with a descriptor of its own, writable as this is. `name`: what the
        part is called, in messages and by formats that note their file's name. It may name no other files. Raises
        MalformedImage (IMAGE_TRUNCATED) for a part that is not inside."""
        if length is not None:
            self._check(start, length, "part of the file")
        path = self.path.with_name(name) if name else self.path
        fd = os.dup(self._fd)
        part = ImageFile(fd, path, base=self.base + start, length=length, writable=self.writable)
        part.durable = self.durable
        part._is_part = True
        return part

    @property
    def size(self) -> int:
        """Bytes in the window now."""
        if self._length is not None:
            return self._length
        return max(0, os.fstat(self._fd).st_size - self.base)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of disk that the whole file occupies."""
        return os.fstat(self._fd).st_blocks * 512

    def fileno(self) -> int:
        return self._fd

    @property
    def siblings(self) -> tuple[ImageFile, ...]:
        """The files opened or made beside this one and not closed yet."""
        return tuple(sibling for sibling in self._siblings if sibling.fileno() >= 0)

    def pread(self, offset: int, length: int, *, structure: str = "image") -> bytes:
        """Exactly `length` bytes; MalformedImage naming `structure` when the window ends before."""
        self._check(offset, length, structure)
        data = os.pread(self._fd, length, self.base + offset)
        if len(data) != length:
            buffer = bytearray(length)
            self.preadinto(offset, memoryview(buffer), structure=structure)
            return bytes(buffer)
        return data

    def preadinto(self, offset: int, buffer: memoryview, *, structure: str = "image") -> None:
        """Fill `buffer` completely, or raise as `pread`."""
        self._check(offset, len(buffer), structure)
        done = 0
        while done < len(buffer):
            n = os.preadv(self._fd, [buffer[done:]], self.base + offset + done)
            if n == 0:
                raise self._truncated(offset, len(buffer), structure)
            done += n

    def pwrite(self, offset: int, data: Buffer) -> None:
        """Write all of `data`. OSError (ENOSPC …) passes through for the caller's edge to translate."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += os.pwrite(self._fd, view[done:], self.base + offset + done)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, self.base + size)

    def datasync(self) -> None:
        """Everything written is on stable storage when it returns, unless the file's creator set `durable` to
        False because it can be made again."""
        if self.durable:
            os.fdatasync(self._fd)

    def open_sibling(self, name: str, *, structure: str = "extent") -> ImageFile:
        """Open another file that this image names, by the rule in the module's docstring. It is closed with
        this one. Raises PermissionDenied (REFERENCE_REFUSED) for any name that is not plain, and for any name at all
        when this is a part of a file, such as a member of an archive, which has no directory; NotFound."""
        self._must_be_plain(name, structure)
        try:
            sibling = ImageFile.open(self.path.parent / self.aliases.get(name, name), follow=False)
        except NotFound as exc:
            raise NotFound(
                f"{self.path.name}: {structure} names {name!r}, which is not beside it",
                reason="REFERENCED_FILE_MISSING",
                metadata={"structure": structure, "name": name},
            ) from exc
        sibling.path = self.path.parent / name
        self._siblings.append(sibling)
        return sibling

    def create_sibling(self, final_name: str, *, resume: bool = False) -> ImageFile:
        """Make a file that belongs to this image, empty, or with `resume` open the one that a dead process left; a
        format asks for its files in the same order each time. It lies under a hidden name and gets its own just before
        this file does. It is closed with this one, if not before. Raises PermissionDenied as `open_sibling`;
        Unsupported (SEVERAL_FILES_UNSUPPORTED) where `new_siblings` is not set; what NewSiblings.create raises."""
        self._must_be_plain(final_name, "file to make")
        if self.new_siblings is None:
            raise Unsupported(
                f"{self.path.name} goes to a place that takes one file, and the image is of several; choose a layout "
                "of one file",
                reason="SEVERAL_FILES_UNSUPPORTED",
            )
        sibling = self.new_siblings.create(final_name, resume=resume)
        sibling.durable = self.durable
        self._siblings.append(sibling)
        return sibling

    def close(self) -> None:
        """Idempotent; closes the siblings too."""
        for sibling in self._siblings:
            sibling.close()
        self._siblings.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _must_be_plain(self, name: str, structure: str) -> None:
        if (
            self._is_part
            or not name
            or len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME
            or name in {".", ".."}
            or any(c in name for c in "/\\\0")
            or name.startswith(("json:", "nbd:", "file:", "http:", "https:", "fd:"))
            or "://" in name
        ):
            raise PermissionDenied(
                f"{self.path.name}: {structure} names {name[:80]!r}, which is not a plain file name in the image's "
                "own directory; such references are never followed",
                reason="REFERENCE_REFUSED",
                metadata={"structure": structure},
            )

    def _check(self, offset: int, length: int, structure: str) -> None:
        if self._fd < 0:
            raise FailedPrecondition(f"{self.path.name} is closed", reason="FILE_CLOSED")
        if offset < 0 or length < 0:
            raise MalformedImage(
                f"{self.path.name}: {structure} at offset {offset} with length {length} is impossible",
                structure=structure, offset=offset,
            )  # fmt: skip
        end = _MAX_OFFSET - self.base if self._length is None else self._length
        if offset + length > end:
            raise self._truncated(offset, length, structure)

    def _truncated(self, offset: int, length: int, structure: str) -> MalformedImage:
        return MalformedImage(
            f"{self.path.name}: {structure} at offset {offset} needs {length} bytes, but the file has only "
            f"{self.size}; it is truncated or its tables are corrupt",
            structure=structure, offset=offset, reason="IMAGE_TRUNCATED",
        )  # fmt: skip


def _open_regular(path: Path, flags: int) -> int:
    """O_NONBLOCK keeps a FIFO from hanging the open; the type is then judged on the descriptor, not the
    name."""
    try:
        fd = os.open(path, flags)
    except (FileNotFoundError, ValueError) as exc:  # ValueError: a NUL in the name, which no file has
        raise NotFound(f"no file {str(path)!r}", reason="FILE_NOT_FOUND", metadata={"path": str(path)}) from exc
    except OSError as exc:
        raise PermissionDenied(
            f"cannot open {str(path)!r}: {exc.strerror}", reason="FILE_PERMISSION", metadata={"path": str(path)}
        ) from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidArgument(
            f"{str(path)!r} is not a regular file", reason="NOT_A_REGULAR_FILE", metadata={"path": str(path)}
        )
    return fd

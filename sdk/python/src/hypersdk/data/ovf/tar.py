"""Tar archives, written: POSIX ustar, as DSP0243 section 5.2 asks, strictly from front to back.

A member of 8 GiB and more has its size in base 256, as GNU tar, libarchive, Python and VirtualBox read it: so every
header is one block, and can be written again in place when a size is known only afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from hypersdk.data.ovf.archive import BLOCK
from hypersdk.data.ovf.names import is_plain
from hypersdk.data.sink import Buffer
from hypersdk.errors import FailedPrecondition, InvalidArgument

END = bytes(2 * BLOCK)
"""What ends an archive: two blocks of zeros."""

MAX_TAR_NAME = 100
_OCTAL_LIMIT = 1 << 33
_MAX_SIZE = 1 << 62


def header(name: str, size: int, *, mtime: int = 0) -> bytes:
    """The block that goes before a plain file of `size` bytes. `mtime`: seconds since 1970. Raises InvalidArgument
    (NAME_INVALID) for a name that is not plain or longer than 100 bytes."""
    raw = name.encode("utf-8", "surrogateescape")
    if not is_plain(name) or len(raw) > MAX_TAR_NAME or not 0 <= size < _MAX_SIZE:
        raise InvalidArgument(
            f"a package has no room for a file of {size} bytes with the name {name[:120]!r}; use a plain name of at "
            f"most {MAX_TAR_NAME} bytes",
            reason="NAME_INVALID",
        )
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = (
        raw.ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", length,
        b"%011o\0" % max(0, min(mtime, _OCTAL_LIMIT - 1)),
        b" " * 8, b"0", bytes(100), b"ustar\0" + b"00", b"root".ljust(32, b"\0"), b"root".ljust(32, b"\0"),
        b"0000000\0", b"0000000\0", bytes(167),
    )  # fmt: skip
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """What fills up the last block of a member of `size` bytes."""
    return bytes(-size % BLOCK)


def stream_size(sizes: list[int]) -> int:
    """Bytes of the archive that holds members of these sizes."""
    return sum(BLOCK + size + -size % BLOCK for size in sizes) + len(END)


class TarStream:
    """An archive sent through `write`, which takes bytes and may be an upload: nothing is ever written twice. Its
    life: `begin` a member whose size is known, `send` all of it, the next one, at last `end`."""

    def __init__(self, write: Callable[[Buffer], object], *, mtime: int = 0) -> None:
        self._write = write
        self._mtime = mtime
        self._missing = 0
        self._padding = b""
        self._names: set[str] = set()

    def begin(self, name: str, size: int) -> None:
        """Raises InvalidArgument (NAME_INVALID) also for a name that was there already."""
        self._close_member()
        if name in self._names:
            raise InvalidArgument(f"the package has a file {name[:120]!r} already", reason="NAME_INVALID")
        self._write(header(name, size, mtime=self._mtime))
        self._names.add(name)
        self._missing, self._padding = size, padding(size)

    def send(self, data: Buffer) -> None:
        length = memoryview(data).nbytes
        if length > self._missing:
            raise FailedPrecondition(
                f"{length} bytes for a member that has room for {self._missing}; it changed while it was packed",
                reason="PACKAGE_MEMBER_SIZE",
            )
        self._write(data)
        self._missing -= length

    def end(self) -> None:
        self._close_member()
        self._write(END)

    def _close_member(self) -> None:
        if self._missing:
            raise FailedPrecondition(
                f"{self._missing} bytes of a member are missing; it changed while it was packed",
                reason="PACKAGE_MEMBER_SIZE",
            )
        if self._padding:
            self._write(self._padding)
            self._padding = b""

"""A file of a package that is compressed as a whole (`ovf:compression="gzip"`), unpacked into a file without a name.

Disk images are read at random places, and a gzip stream only from its beginning; so it is unpacked once, into a
directory of the caller's or that for temporary files (TMPDIR), where it takes the image's size less its zeros and goes
away with the process. A bomb is stopped at what the descriptor declares plus 1 MiB.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.ovf.descriptor import FileReference, OvfDisk
from hypersdk.data.zeros import is_zero
from hypersdk.errors import MalformedImage, from_exception

_SLACK = 1 << 20
_PIECE = 1 << 20
_GZIP = 31  # zlib's wbits: a window of 32 KiB and gzip's header and trailer


def unpacked_limit(disk: OvfDisk, reference: FileReference) -> int:
    """The most bytes that the unpacked image may have: the size that References tells, or what an image of the disk's
    capacity takes at most (1/64 is more than any format's tables), and 1 MiB."""
    capacity = max(disk.capacity_bytes, 0)
    return max(reference.size_bytes, capacity + capacity // 64) + _SLACK


def unpack(file: ImageFile, limit: int, directory: Path | None = None) -> ImageFile:
    """The content of the gzip file `file`, which stays open. `directory`: where to unpack.

    Raises MalformedImage (OVF_GZIP_MALFORMED, OVF_GZIP_TOO_LARGE), ResourceExhausted (DISK_FULL)."""
    try:
        with tempfile.TemporaryFile(prefix="hypersdk-", dir=directory) as spool:
            size = _inflate(file, spool.fileno(), limit)
            spool.truncate(size)
            return ImageFile(os.dup(spool.fileno()), file.path, length=size)
    except OSError as exc:
        where = directory or tempfile.gettempdir()
        raise from_exception(exc, doing=f"unpacking {file.path.name} into {where}") from exc


def _inflate(file: ImageFile, fd: int, limit: int) -> int:
    from isal import isal_zlib

    at = written = 0
    decoder = isal_zlib.decompressobj(wbits=_GZIP)
    rest = b""
    pending = False  # the decoder holds output back that one piece had no room for
    while rest or pending or at < file.size:
        if not rest and not pending:
            rest = file.pread(at, min(_PIECE, file.size - at), structure="gzip stream")
            at += len(rest)
        if decoder.eof:  # another member follows (RFC 1952, section 2.2)
            decoder = isal_zlib.decompressobj(wbits=_GZIP)
        try:
            data = decoder.decompress(rest, _PIECE)
        except isal_zlib.error as exc:  # type: ignore[misc]  # isal's stub calls the class an instance
            raise _malformed(file, at, f"does not decompress ({exc})") from exc
        rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        pending = len(data) == _PIECE and not decoder.eof
        if written + len(data) > limit:
            raise MalformedImage(
                f"{file.path.name} unpacks to more than {limit} bytes, which is all that its package declares",
                structure="gzip stream", offset=at, reason="OVF_GZIP_TOO_LARGE",
            )  # fmt: skip
        if not is_zero(data):
            os.pwrite(fd, data, written)
        written += len(data)
    if not decoder.eof:
        raise _malformed(file, at, "ends within its stream")
    return written


def _malformed(file: ImageFile, offset: int, problem: str) -> MalformedImage:
    return MalformedImage(
        f"{file.path.name} {problem}; fetch the package again",
        structure="gzip stream", offset=offset, reason="OVF_GZIP_MALFORMED",
    )  # fmt: skip

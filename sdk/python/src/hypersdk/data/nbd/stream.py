"""A connected socket as exact reads and writes, none of which waits for ever.

The timeouts are the socket's own (SO_RCVTIMEO, SO_SNDTIMEO), so that a blocking `recv` with MSG_WAITALL fetches a whole
piece in one system call; Python's timeouts would make the socket non-blocking and each read a loop of polls.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Sequence

from hypersdk.data.nbd import faults


class Stream:
    """One end of a connection. Reading and writing may be done by two threads at once, each by one at a time.

    timeout_s  without a byte of progress after which the server counts as hung"""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self.timeout_s = timeout_s
        sock.settimeout(None)
        seconds, micros = divmod(max(1, int(timeout_s * 1e6)), 1_000_000)
        value = struct.pack("@ll", seconds, micros)  # struct timeval; all zeros would mean for ever
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def read(self, count: int, doing: str, deadline: float | None = None) -> bytes:
        """Exactly `count` bytes, which the caller has judged to be a sane number."""
        buffer = bytearray(count)
        self.readinto(memoryview(buffer), doing, deadline)
        return bytes(buffer)

    def readinto(self, view: memoryview, doing: str, deadline: float | None = None) -> None:
        """Fill `view`. Raises Unavailable (NBD_CONNECTION_LOST), DeadlineExceeded (NBD_TIMEOUT): nothing came for
        `timeout_s`, or `deadline` (of time.monotonic) has passed though bytes trickle in."""
        done = 0
        while done < len(view):
            try:
                count = self._sock.recv_into(view[done:], len(view) - done, socket.MSG_WAITALL)
            except (BlockingIOError, TimeoutError) as exc:
                raise faults.overdue(doing, self.timeout_s) from exc
            except OSError as exc:
                raise faults.lost(f"{exc.strerror} while {doing}") from exc
            if not count:
                raise faults.lost(f"it closed the connection while {doing}")
            done += count
            if done < len(view) and deadline is not None and time.monotonic() > deadline:
                raise faults.overdue(f"{doing} (it sends too slowly)", self.timeout_s)

    def write(self, parts: Sequence[bytes | memoryview], doing: str) -> None:
        """All of `parts`, as one run of bytes. Raises as `readinto` does."""
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        while views:
            try:
                count = self._sock.sendmsg(views)
            except (BlockingIOError, TimeoutError) as exc:
                raise faults.overdue(doing, self.timeout_s) from exc
            except OSError as exc:
                raise faults.lost(f"{exc.strerror} while {doing}") from exc
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]

    def shutdown(self) -> None:
        """Wake whoever reads or writes. The descriptor stays valid until `close`."""
        with contextlib.suppress(OSError):  # not connected any more
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shutdown()
        self._sock.close()

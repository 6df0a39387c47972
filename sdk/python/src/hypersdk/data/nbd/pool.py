"""Pool: the connections of one disk.

The first is opened by whoever opens the disk. Where the server says that several see the same disk
(NBD_FLAG_CAN_MULTI_CONN), more are opened in the background, because a server may say so and still admit one client
only (others wait, connected and not greeted): they join when, and if, they are ready.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd.address import NbdAddress
from hypersdk.data.nbd.connection import Connection
from hypersdk.data.nbd.handshake import Export
from hypersdk.errors import HyperError, Unavailable

_JOIN_TIMEOUT_S = 5.0


class Pool:
    """Thread-safe. Its life: made (one connection), `borrowed` by any thread, `close`."""

    def __init__(self, address: NbdAddress, contexts: Sequence[str], *, connections: int, timeout_s: float) -> None:
        first = Connection.open(address, contexts, timeout_s)
        self.export: Export = first.export
        self._address = address
        self._contexts = contexts
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connections = [first]
        self._users: Counter[Connection] = Counter()
        self._closed = False
        self._more = connections - 1 if self.export.has(c.CAN_MULTI_CONN) else 0
        self._opener: threading.Thread | None = None

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """The connection with the fewest users. The second user at a time starts the opening of more. When all have
        failed, one that raises why."""
        with self._lock:
            if self._closed:
                raise Unavailable("the NBD connection was closed", reason="CONNECTION_CLOSED")
            usable = [each for each in self._connections if not each.failed]
            chosen = min(usable or self._connections, key=lambda each: self._users[each])
            if self._more and self._opener is None and self._users[chosen]:
                self._opener = threading.Thread(target=self._open_more, name="hypersdk-nbd", daemon=True)
                self._opener.start()
            self._users[chosen] += 1
        try:
            yield chosen
        finally:
            with self._lock:
                self._users[chosen] -= 1

    def close(self) -> None:
        """Take leave on all connections. Idempotent."""
        with self._lock:
            self._closed = True
            connections, self._connections = self._connections, self._connections[:1]
        for each in connections:
            each.disconnect()

    def _open_more(self) -> None:
        for _ in range(self._more):
            try:
                another = Connection.open(self._address, self._contexts, min(self._timeout_s, _JOIN_TIMEOUT_S))
            except HyperError:
                return  # one connection does the work, too, and reports what is wrong with the server if something is
            with self._lock:
                if not self._closed and another.export == self.export:
                    self._connections.append(another)
                    continue
            another.disconnect()
            return

"""The control socket: where a kernel attaches, is told what the journal says, and commands.

One connection at a time; a new one replaces the old, because its kernel is gone or has lost patience. Every
connection has a thread that reads commands and, once attached, one that sends records. The sender follows
the journal file by its own cursor, so a kernel that reads slowly or not at all costs no memory and never
holds up the task.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import InvalidArgument, Unavailable
from hypersdk.runner.journal import Journal
from hypersdk.runner.progress import ProgressMeter
from hypersdk.wire.rpc import Method, Peer, Request

_CREDENTIALS = struct.Struct("3i")
_WAKE_BYTES = 64


class Control:
    """Serves the listening socket from `start` until the process ends. `commands` are the methods beside
    `attach`; `on_sigterm` is called when the signal's number arrives on `wake_fd`
    (signal.set_wakeup_fd)."""

    def __init__(
        self,
        listener: socket.socket,
        journal: Journal,
        meter: ProgressMeter,
        commands: Mapping[str, Method],
        *,
        wake_fd: int = -1,
        on_sigterm: Callable[[], object] = lambda: None,
    ) -> None:
        self._listener = listener
        self._journal = journal
        self._meter = meter
        self._commands = commands
        self._wake_fd = wake_fd
        self._on_sigterm = on_sigterm
        self._current: _Connection | None = None

    def start(self) -> None:
        threading.Thread(target=self._serve, name="control", daemon=True).start()

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        if self._wake_fd >= 0:
            poll.register(self._wake_fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake_fd:
                    if signal.SIGTERM in os.read(fd, _WAKE_BYTES):
                        self._on_sigterm()
                else:
                    self._accept()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it went away between poll and accept; the next one is waited for
        if _peer_uid(sock) not in {0, os.geteuid()}:
            sock.close()
            return
        connection = _Connection(sock, self._journal, self._meter, self._commands)
        with self._journal.changed:
            old, self._current = self._current, connection
        if old is not None:
            old.close()
        connection.start()

    def flush(self, seq: int, timeout_s: float) -> bool:
        """Wait until the connected kernel, if there is one, was sent the record `seq`."""

        def sent() -> bool:
            return self._current is None or self._current.closed or self._current.sent >= seq

        with self._journal.changed:
            return self._journal.changed.wait_for(sent, timeout_s)


class _Connection:
    """One kernel's connection. `sent` is the number of the last record that was handed to the socket."""

    def __init__(
        self, sock: socket.socket, journal: Journal, meter: ProgressMeter, commands: Mapping[str, Method]
    ) -> None:
        self._journal = journal
        self._meter = meter
        self._peer = Peer(sock, {**commands, "attach": Method(self._attach)})
        self._attached = False
        self.sent = 0

    @property
    def closed(self) -> bool:
        return self._peer.closed.is_set()

    def start(self) -> None:
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def close(self) -> None:
        self._peer.close()
        with self._journal.changed:
            self._journal.changed.notify_all()

    def _read(self) -> None:
        self._peer.run()
        self.close()

    def _attach(self, request: Request) -> dict[str, Any] | None:
        after = request.params.get("after_seq", 0)
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise InvalidArgument("after_seq must be a record's number or 0", reason="AFTER_SEQ_INVALID")
        if self._attached:
            raise InvalidArgument("this connection is attached; open another", reason="ALREADY_ATTACHED")
        self._attached = True
        request.answer({"seq": self._journal.seq, "pid": os.getpid()})
        threading.Thread(target=self._send, args=(after,), name="records", daemon=True).start()
        return None

    def _send(self, after: int) -> None:
        """Send every record after `after`, and the latest progress, until the connection ends."""
        offset = version = 0
        changed = self._journal.changed
        with contextlib.suppress(Unavailable):  # the kernel has gone: the journal is there for the next one
            while True:
                records, offset = self._journal.read_from(offset)
                for record in records:
                    if record["seq"] > after:
                        self._peer.notify("record", record)
                    with changed:
                        self.sent = record["seq"]
                        changed.notify_all()
                if version != self._meter.version:
                    with changed:
                        version, progress = self._meter.version, self._meter.published
                    self._peer.notify("progress", progress)
                with changed:
                    while self._journal.seq <= self.sent and self._meter.version == version:
                        if self.closed:
                            return
                        changed.wait()


def _peer_uid(sock: socket.socket) -> int:
    """The user at the other end, as the operating system knows it (unix(7), SO_PEERCRED)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(raw)[1])

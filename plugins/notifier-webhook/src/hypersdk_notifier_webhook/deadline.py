"""A socket whose answer has one deadline, however slowly its bytes drip: http.client's own timeout begins anew with
every byte, and a receiver that sends one every nine seconds would hold a thread for a week."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from typing import Any


class TimedSocket:
    """What http.client needs of a socket. `timeout_s` is for sending, and again for the whole answer."""

    def __init__(
        self, sock: socket.socket, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._clock = clock

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._timeout_s)
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._sock, self._clock() + self._timeout_s, self._clock))

    def close(self) -> None:
        self._sock.close()


class _TimedReader(io.RawIOBase):
    """Raises TimeoutError when the deadline is over."""

    def __init__(self, sock: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self._clock = clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(left_s)
        return self._sock.recv_into(buffer)

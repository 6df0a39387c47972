"""An agent's connection to its kernel: TCP, TLS 1.3, the kernel's own CA and no other.

`TlsStream` looks like a socket to hypersdk.wire.rpc.Peer, which reads in one thread and writes in others. OpenSSL
allows only one of them at a time in one connection, so every call of it is made under a lock and never waits there.

Not here: what is said over it (remote).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
from dataclasses import dataclass

CONNECT_S = 15.0
STALLED_S = 60.0
"""A kernel that takes not one byte in so long is not there any more."""
SERVER_NAME = "localhost"
"""A name in every certificate of a kernel. Who is called is known by the CA, which certifies that kernel alone."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What this attempt proves itself by: PEM of its certificate and of its private key."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Identity(…)"


def connect(address: str, ca_pem: str, identity: Identity | None) -> TlsStream:
    """A connection to `host:port`, the other side's certificate verified. Raises OSError (ssl.SSLError is one) and
    ValueError for an address that is none."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca_pem)
    if identity is not None:
        _load(context, identity)
    raw = socket.create_connection((host.strip("[]"), int(port)), CONNECT_S)
    try:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return TlsStream(context.wrap_socket(raw, server_hostname=SERVER_NAME))
    except BaseException:
        raw.close()
        raise


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """The key is never in a file: OpenSSL reads it from memory, by the name that /proc gives that."""
    fd = os.memfd_create("hypersdk-identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{identity.certificate}\n{identity.key}".encode("ascii"))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class TlsStream:
    """`recv`, `sendall`, `shutdown`, `close`, from any threads."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._lock = threading.Lock()
        self._closed = False

    def recv(self, size: int) -> bytes:
        while True:
            with self._lock:
                if self._closed:
                    return b""
                try:
                    return self._sock.recv(size)
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
                except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    return b""
            self._wait(wanted, None)

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with self._lock:
                if self._closed:
                    raise BrokenPipeError("the connection is closed")
                try:
                    view = view[self._sock.send(view) :]
                    continue
                except ssl.SSLWantReadError:
                    wanted = select.POLLIN
                except ssl.SSLWantWriteError:
                    wanted = select.POLLOUT
            if not self._wait(wanted, STALLED_S):
                raise TimeoutError(f"the kernel took nothing in {STALLED_S:g} s")

    def shutdown(self, how: int) -> None:
        """Wakes whoever waits in `recv` and `sendall`. The descriptor stays until `close`."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):  # not connected any more
                socket.socket.shutdown(self._sock, how)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._sock.close()

    def _wait(self, events: int, timeout_s: float | None) -> bool:
        """By a poll of its own, in slices: `close` by another thread must not leave us waiting on a number that may
        belong to somebody else by then."""
        poll = select.poll()
        poll.register(self._fd, events)
        waited = 0.0
        while not self._closed:
            if poll.poll(1000):
                return True
            waited += 1.0
            if timeout_s is not None and waited >= timeout_s:
                return False
        return True

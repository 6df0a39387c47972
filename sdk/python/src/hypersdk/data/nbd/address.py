"""Where an NBD server listens: a unix socket, or a TCP port of this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from hypersdk.data.nbd import constants as c
from hypersdk.data.nbd import faults
from hypersdk.errors import InvalidArgument, Unsupported, from_exception

DEFAULT_PORT = 10809
_MAX_SOCKET_PATH = 107
"""sun_path of unix(7), without its closing zero."""


@dataclass(frozen=True, slots=True)
class NbdAddress:
    """A server and the name of an export; `path` for a unix socket, else `host` and `port`.

    Raises InvalidArgument (NBD_ADDRESS_INVALID); Unsupported (NBD_ADDRESS_NOT_LOCAL) for a host that is not this
    machine, because plain NBD is neither encrypted nor authenticated: tunnel it."""

    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    export: str = ""

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.host):
            raise _invalid("give either the path of a unix socket or a host")
        if "\0" in self.path or (self.path and not os.path.isabs(self.path)):
            raise _invalid("the socket's path must be absolute")
        if len(self.export.encode("utf-8", "surrogateescape")) > c.MAX_NAME_BYTES:
            raise _invalid(f"the export's name is longer than {c.MAX_NAME_BYTES} bytes")
        if self.host:
            if not 0 < self.port < 65536:
                raise _invalid(f"{self.port} is no port")
            if not _is_loopback(self.host):
                raise Unsupported(
                    f"{self.host!r} is not this machine, and NBD has no protection on a network; forward the port "
                    "to 127.0.0.1 through SSH or TLS",
                    reason="NBD_ADDRESS_NOT_LOCAL",
                )

    @classmethod
    def parse(cls, uri: str) -> NbdAddress:
        """`nbd+unix:///export?socket=/path`, `nbd://127.0.0.1:10809/export` (the NBD project's uri.md)."""
        try:
            parts = urlsplit(uri)
            port = parts.port
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        except ValueError as exc:
            raise _invalid(f"{uri!r} is no address: {exc}") from exc
        export = unquote(parts.path.removeprefix("/"))
        if parts.scheme == "nbd+unix" and options.keys() == {"socket"} and not parts.netloc:
            return cls(path=options["socket"], export=export)
        if parts.scheme == "nbd" and not options and parts.hostname and parts.username is None:
            return cls(host=parts.hostname, port=port or DEFAULT_PORT, export=export)
        raise _invalid(f"{uri!r} is neither nbd+unix:///EXPORT?socket=PATH nor nbd://HOST:PORT/EXPORT")

    def connect(self, timeout_s: float) -> socket.socket:
        """A connected socket. Raises Unavailable (NBD_CONNECTION_LOST), DeadlineExceeded (NBD_TIMEOUT)."""
        try:
            if self.path:
                return _connect_unix(self.path, timeout_s)
            sock = socket.create_connection((self.host, self.port), timeout_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except TimeoutError as exc:
            raise faults.overdue(f"connecting to {self}", timeout_s) from exc
        except OSError as exc:
            raise faults.lost(from_exception(exc, doing=f"cannot connect to {self}").message) from exc

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def _connect_unix(path: str, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = -1
    try:
        sock.settimeout(timeout_s)
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            # A job's run directory may be deep; its descriptor's name under /proc is short.
            folder = os.open(Path(path).parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{folder}/{Path(path).name}"
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _invalid(text: str) -> InvalidArgument:
    return InvalidArgument(f"NBD address: {text}", reason="NBD_ADDRESS_INVALID")

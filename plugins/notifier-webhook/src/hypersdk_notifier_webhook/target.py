"""Where a request may go: the URL taken apart once, and its address judged before every connection.

A webhook's address is chosen by whoever may make a connection, and the request leaves from inside the operator's
network. So an address that is loopback, link-local, private, multicast or otherwise not for the public internet is
refused unless `allow_private`. The name is resolved once and the connection made to the address that was judged:
a name server that answers differently the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from hypersdk.errors import FieldViolation, InvalidArgument, PermissionDenied, Unavailable

MAX_ADDRESSES = 8


@dataclass(frozen=True, slots=True)
class Target:
    """`path` with the query. `shown` names it in messages: scheme, host and port, for tokens hide in paths."""

    scheme: str
    host: str
    port: int
    path: str
    allow_private: bool

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"

    def addresses(self) -> list[str]:
        """Addresses to connect to, at least one. Raises PermissionDenied (WEBHOOK_ADDRESS_REFUSED) when one of them is
        not public, Unavailable (WEBHOOK_UNREACHABLE) when the name is not known."""
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            raise Unavailable(
                f"the name {self.host!r} cannot be resolved: {exc}", reason="WEBHOOK_UNREACHABLE"
            ) from exc
        addresses = list(dict.fromkeys(str(row[4][0]) for row in found))[:MAX_ADDRESSES]
        for address in addresses:
            if not self.allow_private and not is_public(address):
                raise PermissionDenied(
                    f"{self.host} is {address}, which is not a public address; set allow_private if it is meant",
                    reason="WEBHOOK_ADDRESS_REFUSED",
                )
        return addresses


def target_of(config: Mapping[str, Any]) -> Target:
    """From a connection's config. Raises InvalidArgument (CONFIG_INVALID) naming `url`."""
    url = str(config.get("url", ""))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise _wrong(f"is no URL: {exc}") from exc
    if any(ord(c) < 33 or ord(c) > 126 for c in url):
        raise _wrong("holds a space, a control character or a letter that must be escaped")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _wrong("must be https://host/…")
    if parts.scheme == "http" and config.get("allow_http") is not True:
        raise _wrong("must be https, or set allow_http")
    if parts.username is not None or parts.password is not None:
        raise _wrong("must not hold a user or password; use `authorization`")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    allow_private = config.get("allow_private") is True
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), path, allow_private)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet. An IPv4 address within an IPv6 one counts as itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _wrong(text: str) -> InvalidArgument:
    return InvalidArgument(
        f"url {text}", reason="CONFIG_INVALID", violations=(FieldViolation("config.url", text),)
    )

"""Listening sockets of services: bound by the kernel, handed to each process of the service, kept over their swaps and
crashes, so that no client is refused meanwhile.

Which addresses: the config properties that the component's schema marks `"listen": true`. Not here: the processes.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any

from hypersdk.errors import FailedPrecondition, InvalidArgument
from hypersdk.plugin.manifest import ComponentManifest

BACKLOG = 1024
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253})):([0-9]{1,5})")


class Listeners:
    """The sockets of one connection. Its life: `use` for each process that is to be started, `close` at the end."""

    def __init__(self) -> None:
        self._sockets: dict[str, tuple[str, socket.socket]] = {}

    def use(self, manifest: ComponentManifest, config: Mapping[str, Any]) -> dict[str, socket.socket]:
        """The sockets that `config` wants, by property; those of before at the same address are kept. What is not
        wanted any more stays open until `trim`. Raises InvalidArgument (LISTEN_ADDRESS_INVALID), FailedPrecondition
        (ADDRESS_UNAVAILABLE)."""
        wanted = {name: str(config[name]) for name in listen_fields(manifest) if name in config}
        opened: dict[str, tuple[str, socket.socket]] = {}
        try:
            for name, address in wanted.items():
                before = self._sockets.get(name)
                if before is None or before[0] != address:
                    opened[name] = (address, _bind(name, address))
        except BaseException:
            for _, one in opened.values():
                one.close()
            raise
        for name, made in opened.items():
            old = self._sockets.pop(name, None)
            if old is not None:
                old[1].close()  # the process that has it goes on with its own copy
            self._sockets[name] = made
        return {name: self._sockets[name][1] for name in wanted}

    def trim(self, names: set[str]) -> None:
        """Close what no process uses any more."""
        for name in self._sockets.keys() - names:
            self._sockets.pop(name)[1].close()

    def addresses(self) -> list[str]:
        """As bound: `127.0.0.1:9100`."""
        return [_shown(one.getsockname()) for _, one in self._sockets.values()]

    def close(self) -> None:
        self.trim(set())


def listen_fields(manifest: ComponentManifest) -> tuple[str, ...]:
    """Top-level config properties that the schema marks `listen: true`."""
    properties = manifest.config_schema.get("properties")
    if not isinstance(properties, dict):
        return ()
    return tuple(k for k, v in properties.items() if isinstance(v, dict) and v.get("listen") is True)


def _bind(name: str, address: str) -> socket.socket:
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[3]) > 65535:
        raise InvalidArgument(
            f"{name}: {address[:80]!r} is no address to listen on; write 127.0.0.1:9100 or [::1]:9100",
            reason="LISTEN_ADDRESS_INVALID",
        )
    host, port = found[1] or found[2], int(found[3])
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        one = socket.socket(family, kind, proto)
    except OSError as exc:
        raise _unavailable(name, address, exc) from exc
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(where)
        one.listen(BACKLOG)
    except OSError as exc:
        one.close()
        raise _unavailable(name, address, exc) from exc
    return one


def _unavailable(name: str, address: str, exc: OSError) -> FailedPrecondition:
    return FailedPrecondition(
        f"{name}: cannot listen on {address}: {exc.strerror or exc}",
        reason="ADDRESS_UNAVAILABLE",
        metadata={"address": address},
    )


def _shown(name: tuple[Any, ...]) -> str:
    host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
    return f"{host}:{name[1]}"

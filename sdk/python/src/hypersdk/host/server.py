"""The life of a host process.

A reader thread serves the socket for as long as it is open and ends the process when it closes, whatever
the plugin is doing then. `ping` and `shutdown` are answered on the reader itself; calls run on worker
threads; the plugin is imported on the main thread, where libraries may install their signal handlers.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from hypersdk.errors import FailedPrecondition, InvalidArgument, Unavailable, Unsupported
from hypersdk.host.calls import Calls
from hypersdk.plugin.loading import extend_search_path
from hypersdk.plugin.manifest import API_VERSION
from hypersdk.wire import confine, stdio
from hypersdk.wire.redact import Redactor
from hypersdk.wire.rpc import Method, Peer, Request
from hypersdk.wire.workers import Workers

PROTOCOL = 1
CALL_THREADS = 16
DRAIN_S = 4.0
"""Seconds that calls in flight get after `shutdown`; with CLOSE_S below the 5 that the protocol allows."""
CLOSE_S = 0.5
"""Seconds that the instances get to close before the process ends."""


class Server:
    """One generation on one connection. `run` is called once, on the main thread, and returns when the
    kernel wants no more."""

    def __init__(self, sock: socket.socket, redactor: Redactor, confinement: Sequence[Mapping[str, str]] = ()) -> None:
        self._redactor = redactor
        self._confinement = [dict(row) for row in confinement]
        self._calls: Calls | None = None
        self._initializing = False
        self._draining = False
        self._main: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        workers = Workers(CALL_THREADS, "call")
        self._peer = Peer(
            sock,
            {
                "initialize": Method(self._initialize, self._main.put),
                "ping": Method(lambda _request: {}),
                "call": Method(self._call, workers.submit),
                "cancel": Method(lambda request: self._peer.cancel(request.params.get("id"))),
                "shutdown": Method(self._shutdown),
            },
        )

    def run(self) -> None:
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while (job := self._main.get()) is not None:
            job()
        began = time.monotonic()
        if self._calls is not None:
            self._calls.wind_down(DRAIN_S)
        self._peer.drain(max(0.0, DRAIN_S - (time.monotonic() - began)))

    def _read(self) -> None:
        self._peer.run()
        self.leave()

    def leave(self) -> None:
        """End the process now: no thread of a plugin is waited for. Instances get CLOSE_S to close."""
        calls = self._calls
        if calls is not None:
            closing = threading.Thread(target=calls.close, name="close", daemon=True)
            closing.start()
            closing.join(CLOSE_S)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(0)

    # -- methods ---------------------------------------------------------------------------------------------

    def _initialize(self, request: Request) -> dict[str, Any]:
        params = request.params
        if self._initializing:
            raise FailedPrecondition("initialize was called before", reason="ALREADY_INITIALIZED")
        self._initializing = True
        if params.get("protocol") != PROTOCOL:
            text = f"this host speaks protocol {PROTOCOL}, not {params.get('protocol')!r}"
            raise Unsupported(text, reason="PROTOCOL_UNSUPPORTED")
        search_path, components = params.get("search_path", []), params.get("components")
        if not isinstance(search_path, list) or not isinstance(components, dict):
            text = "search_path must be a list, components an object"
            raise InvalidArgument(text, reason="INITIALIZE_INVALID")
        extend_search_path([str(path) for path in search_path])
        self._calls = Calls(components, params.get("manifest") or {}, self._log, self._redactor)
        rpcs = {component: sorted(found) for component, found in self._calls.rpcs.items() if found}
        return {
            "protocol": PROTOCOL,
            "api_version": ".".join(str(part) for part in API_VERSION),
            "components": sorted(components),
            "pid": os.getpid(),
            "confinement": self._confinement,
        } | ({"rpcs": rpcs} if rpcs else {})

    def _call(self, request: Request) -> dict[str, Any]:
        if self._calls is None:
            raise FailedPrecondition("the host has not been initialized", reason="HOST_NOT_INITIALIZED")
        if self._draining:
            raise Unavailable("the host is shutting down; the call was not made", reason="HOST_DRAINING")
        return self._calls.call(request)

    def _shutdown(self, request: Request) -> None:
        self._draining = True
        request.answer({})
        self._main.put(None)

    def _log(self, level: str, event: str, fields: dict[str, Any]) -> None:
        with contextlib.suppress(Unavailable):  # the kernel has gone, and this process is about to
            self._peer.notify("log", {"level": level, "event": event, "fields": fields})


def serve(fd: int) -> None:
    """Serve the connected socket `fd`; does not return."""
    redactor = Redactor()
    sock = socket.socket(fileno=stdio.claim(fd))
    stdio.detach_stdio(None, redactor)
    stdio.harden()
    confinement = confine.apply(confine.from_environ())
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal's; the kernel decides when a host ends
        signal.signal(number, _ignore)
    server = Server(sock, redactor, confinement)
    server.run()
    server.leave()


def _ignore(number: int, frame: object) -> None:
    """Instead of SIG_IGN, which programs started by a plugin would inherit."""

"""What a Service answers in its host: `Health`, and in a process of its own `Run`, which is answered when the service
says that it is ready. `wind_down` ends it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import FailedPrecondition, HyperError, Unavailable, from_exception
from hypersdk.host import result
from hypersdk.host.request import Call
from hypersdk.plugin.service import Service, ServiceContext

CRASHED = 70
"""Exit status of a process whose service ended unasked (EX_SOFTWARE)."""

_running: list[_Running] = []
_lock = threading.Lock()


class _Context(ServiceContext):
    def __init__(self, call: Call, listeners: Mapping[str, socket.socket]) -> None:
        self.connection = call.connection
        self.address = call.text("address")
        self.token = call.text("token")
        self.listeners = listeners
        self.stopping = threading.Event()
        self.is_ready = False
        self.settled = threading.Event()
        """It is ready, or has ended."""
        self._log = call.log

    def ready(self) -> None:
        self.is_ready = True
        self.settled.set()

    def log(self, level: str, event: str, **fields: Any) -> None:
        self._log(level, event, result.json_object(fields, "log fields"))


class _Running:
    """The service of this process. Its life: started by `Run`; `stop` asks it to end and waits; an end that nobody
    asked for ends the process."""

    def __init__(self, service: Service, context: _Context) -> None:
        self.context = context
        self.failure: HyperError | None = None
        self._service = service
        self._thread = threading.Thread(target=self._work, name="service", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Until it is ready. Raises what `run` raised, or Unavailable (SERVICE_ENDED) when it returned instead."""
        self.context.settled.wait()
        if not self.context.is_ready:
            raise self.failure or Unavailable("the service ended before it was ready", reason="SERVICE_ENDED")

    def stop(self, timeout_s: float) -> None:
        self.context.stopping.set()
        self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            self._service.run(self.context)
        except BaseException as exc:  # noqa: BLE001 - whatever a plugin raises, the process ends by it
            self.failure = from_exception(exc, doing=f"the service of {self.context.connection}")
            traceback.print_exception(exc, limit=-30, file=sys.stderr)
        self.context.settled.set()
        if self.context.is_ready and not self.context.stopping.is_set():
            print("the service ended without having been asked to", file=sys.stderr)  # noqa: T201
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(CRASHED)


def _health(service: Service, _call: Call) -> dict[str, Any]:
    """It was imported and made, and configured if it was called with a connection; its process is the kernel's to
    watch."""
    return {"ok": isinstance(service, Service), "message": "", "latency_s": 0.0, "details": {}}


def _run(service: Service, call: Call) -> dict[str, Any]:
    raw = call.message.get("listeners") or {}
    with _lock:
        if _running:
            raise FailedPrecondition("this process runs a service already", reason="SERVICE_RUNNING")
        listeners = {str(name): socket.socket(fileno=int(fd)) for name, fd in dict(raw).items()}
        running = _Running(service, _Context(call, listeners))
        _running.append(running)
    began = time.monotonic()
    running.wait_ready()
    return {"ready_s": time.monotonic() - began}


def wind_down(timeout_s: float) -> None:
    """Ask the service of this process to end, and give it `timeout_s` seconds."""
    with _lock:
        running = list(_running)
    for one in running:
        one.stop(timeout_s)


METHODS: Mapping[str, Callable[[Service, Call], dict[str, Any]]] = {"Health": _health, "Run": _run}

"""Service: the contract of `hypersdk.service` plugins: a process of its own that runs as long as the kernel, such as a
gateway or an exporter of metrics.

A component whose manifest has the capability `run` gets one process for each connection of it (`connections/gateway`):
started with the kernel, restarted after a crash with growing delays, replaced when the plugin is swapped or the
connection changes, asked to end when the kernel stops or the connection goes. The connection's label
`hypersdk.dev/enabled` = `false` keeps it from running.

The life of an instance in that process: created with no arguments, `configure(config, secrets)`, `run(context)` on a
thread of its own, then the process ends. `run`

* gets ready (opens what it needs), calls `context.ready()` within 30 s, and works until `context.stopping` is set;
* returns within 4 s of that; what it does then is lost;
* that returns or raises before it was asked to stop counts as a crash.

**Listening.** A property of the config schema with `"listen": true` is an address, `host:port` or `[v6]:port`. The
kernel binds it and hands the listening socket over: `context.listeners["<property>"]`. It stays the kernel's, so that
during a swap the old process and the new one take connections from the same queue, and a client that comes while a
crashed one is restarted waits instead of being refused. Nobody is ever turned away for a swap. Port 0 takes a free
port; `listener.getsockname()` tells which.

During a swap two processes of the same connection run for a moment: the new one is asked to be ready before the old one
is asked to stop. What both must not do at once needs a lock of its own.

**The kernel's API.** `context.address` is a gRPC target, `context.token` a credential of this process alone, sent as
the call metadata `authorization: Bearer <token>`: so the audit trail names the service as the actor. It ends with the
process.

Kinds of work that only answer calls need no process: a component, of any kind, may have a gRPC service of its own
(`descriptor_set` in the manifest, methods marked with `rpc`).

Not here: work that ends (a task), or that is done for one event (a notifier).
"""

from __future__ import annotations

import abc
import socket
import threading
from collections.abc import Mapping
from typing import Any

from hypersdk.errors import Unsupported


class ServiceContext(abc.ABC):
    """What a service is given.

    connection  resource name of what it was configured by
    address     the kernel's gRPC API: `unix:/path/to/hypersdkd.sock`
    token       its credential there; never in a log (the host redacts it)
    listeners   listening sockets by the name of their config property
    stopping    set when the service is to end
    """

    connection: str
    address: str
    token: str
    listeners: Mapping[str, socket.socket]
    stopping: threading.Event

    @abc.abstractmethod
    def ready(self) -> None:
        """It serves. Called once; then the kernel stops the process that it replaces."""

    @abc.abstractmethod
    def log(self, level: str, event: str, **fields: Any) -> None:
        """A structured line in the kernel's log. level: debug, info, warning, error. Values are JSON; secrets are
        redacted."""


class Service(abc.ABC):  # noqa: B024 - a service has a process, or methods of its own, or both
    """See the module's docstring. All methods are (C): in the service's own process, or in the control host for the
    methods marked with `rpc`."""

    def configure(self, config: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
        """Called first, when the instance belongs to a connection. `config` has passed the manifest's schema."""

    def run(self, context: ServiceContext) -> None:
        """Work until `context.stopping` is set. Declared by the capability `run`."""
        raise Unsupported("this service has no process of its own", reason="SERVICE_HAS_NO_PROCESS")

    def close(self) -> None:
        """Let go of what an instance in the control host holds."""

"""Calls: from a `call` of the protocol to a method of the plugin, and every way in which that can fail to a
typed error."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from hypersdk.errors import (
    DeadlineExceeded,
    HyperError,
    Internal,
    InvalidArgument,
    Unsupported,
    from_exception,
    from_json,
)
from hypersdk.host import result
from hypersdk.host.instances import Instances
from hypersdk.host.request import Call
from hypersdk.plugin.loading import load
from hypersdk.plugin.rpcs import rpcs_of
from hypersdk.wire.redact import Redactor
from hypersdk.wire.rpc import Request

ADAPTERS: Mapping[str, str] = {
    "provider": "provider",
    "format": "image_format",
    "storage": "storage",
    "task": "task",
    "notifier": "notifier",
    "pricing": "pricing",
    "secrets": "secrets",
    "service": "service",
    "carbon": "carbon",
    "executor": "executor",
}
"""kind → the module of hypersdk.host that has its METHODS; a host imports those of its own components."""

Adapter = Mapping[str, Callable[[Any, Call], dict[str, Any]]]

Log = Callable[[str, str, dict[str, Any]], None]


class Calls:
    """The components of one generation. Thread-safe.

    log       (level, event, fields) towards the kernel
    redactor  learns the secrets of every connection that is seen
    """

    def __init__(
        self, components: Mapping[str, str], manifest: Mapping[str, Any], log: Log, redactor: Redactor
    ) -> None:
        """Imports the plugin: raises what `loading.load` raises."""
        self._classes = {component: load(component, entry) for component, entry in components.items()}
        self._adapters = {component: _adapter(component.partition("/")[0]) for component in components}
        self.rpcs = {component: rpcs_of(cls) for component, cls in self._classes.items()}
        self._manifest = manifest
        self._instances = Instances()
        self._log = log
        self._redactor = redactor

    def call(self, request: Request) -> dict[str, Any]:
        """Answer one `call`. Raises only errors of the tree, without secrets in them."""
        component = str(request.params.get("component"))
        method = str(request.params.get("method"))
        began = time.monotonic()
        try:
            self._check_deadline(request)
            return self._dispatch(component, method, request.params)
        except SystemExit as exc:
            text = f"{component} {method}: the plugin called sys.exit({exc.code!r})"
            raise self._clean(Internal(text, reason="PLUGIN_EXITED")) from exc
        except BaseException as exc:
            error = from_exception(exc, doing=f"{component} {method}")
            if error is not exc:
                self._report(component, method, exc, time.monotonic() - began)
            raise self._clean(error) from exc

    def _dispatch(self, component: str, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        cls = self._classes.get(component)
        if cls is None:
            raise InvalidArgument(
                f"this host serves {', '.join(self._classes)}, not {component}", reason="COMPONENT_UNKNOWN"
            )
        own = self.rpcs[component].get(f"{params.get('service')}.{method}")
        adapter = self._adapters[component].get(method) if own is None else _own_method(own)
        if adapter is None:
            raise Unsupported(f"{component} has no method {method!r}", reason="METHOD_UNKNOWN")
        connection = params.get("connection")
        message = params.get("request") or {}
        if not isinstance(message, dict) or not isinstance(connection, dict | None):
            text = "request must be an object, connection an object or null"
            raise InvalidArgument(text, reason="CALL_INVALID")
        if connection is not None:
            self._redactor.add(dict(connection.get("secrets") or {}).values())
        if isinstance(redact := params.get("redact"), list):
            self._redactor.add(redact)
        name = str(connection.get("name", "")) if connection is not None else ""
        manifest = dict(self._manifest.get("components") or {}).get(component) or {}
        with self._instances.lease(component, cls, connection) as instance:
            return adapter(instance, Call(component, manifest, name, message, self._log_redacted))

    def _check_deadline(self, request: Request) -> None:
        timeout_s = request.params.get("timeout_s")
        if isinstance(timeout_s, int | float) and request.age_s > timeout_s:
            raise DeadlineExceeded(
                f"the call waited {request.age_s:.1f} s for a free thread, longer than its {timeout_s} s"
            )

    def _report(self, component: str, method: str, exc: BaseException, seconds: float) -> None:
        import traceback

        trace = self._redactor.text("".join(traceback.format_exception(exc, limit=-30)))[-16384:]
        took = round(seconds, 6)
        fields = {"component": component, "method": method, "duration_s": took, "traceback": trace}
        self._log("error", "call_failed", fields)

    def _clean(self, error: HyperError) -> HyperError:
        return from_json(self._redactor.value(error.to_json()))

    def wind_down(self, timeout_s: float) -> None:
        """Ask what runs beside the calls to end; returns when it has, or after `timeout_s` seconds."""
        for kind in {component.partition("/")[0] for component in self._classes} & {"service"}:
            importlib.import_module(f"hypersdk.host.{ADAPTERS[kind]}").wind_down(timeout_s)

    def close(self) -> None:
        self._instances.close()

    def _log_redacted(self, level: str, event: str, fields: dict[str, Any]) -> None:
        self._log(level, self._redactor.text(event), self._redactor.value(fields))


def _own_method(name: str) -> Callable[[Any, Call], dict[str, Any]]:
    """A method marked with `rpc`: a message of the plugin's own service to its response."""
    return lambda instance, call: result.json_object(getattr(instance, name)(dict(call.message)), name)


def _adapter(kind: str) -> Adapter:
    methods: Adapter = importlib.import_module(f"hypersdk.host.{ADAPTERS[kind]}").METHODS
    return methods

"""Plugins' own gRPC services, served as long as their generation is active: looked up at each call, so that a swap
changes them like everything else.

A call passes the same gate as ours: authentication, the proto's validation rules, deadline, limits, audit, errors. Not
here: what a descriptor set may say (hosting.ownapi).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from hypersdk_kernel.hosting.ownapi import OwnServices, services_of
from hypersdk_kernel.hosting.router import Router
from hypersdk_kernel.model.plugin import ActiveComponent, Plugin
from hypersdk_kernel.server.methods import Gate, method_handler
from hypersdk_kernel.server.validation import RequestValidator
from hypersdk_kernel.services.call import Call

MAX_HANDLERS = 1000


class Plugins(Protocol):
    """hosting.registry.Registry, as far as this needs it."""

    def plugins(self) -> list[Plugin]: ...


class OwnHandlers(grpc.GenericRpcHandler):
    """One for all plugins, asked after ours for a path that none of ours has."""

    def __init__(self, gate: Gate, registry: Plugins, router: Router) -> None:
        self._gate = gate
        self._registry = registry
        self._router = router
        self._handlers: dict[tuple[str, str], grpc.RpcMethodHandler[Any, Any]] = {}

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        path: str = handler_call_details.method
        for component, own in self.live():
            if path in own.methods:
                return self._handler(path, component, own)
        return None

    def live(self) -> Iterator[tuple[ActiveComponent, OwnServices]]:
        """The components of active generations that have services of their own."""
        for plugin in self._registry.plugins():
            active = plugin.active
            if active is None or active.manifest is None:
                continue
            for manifest in active.manifest.components.values():
                if manifest.own is not None:
                    yield ActiveComponent(manifest, active), services_of(manifest.name, manifest.own.data)

    def _handler(self, path: str, component: ActiveComponent, own: OwnServices) -> grpc.RpcMethodHandler[Any, Any]:
        key = (component.generation.name, path)
        found = self._handlers.get(key)
        if found is None:
            if len(self._handlers) >= MAX_HANDLERS:
                self._handlers.clear()
            method, route = own.methods[path]

            async def answer(request: Any, call: Call) -> Message:
                return await self._router.call_own(route, component, request, call.timeout_s)

            # Rules are compiled by the name of a message: another build's message of that name has rules of its own.
            gate = replace(self._gate, validator=RequestValidator())
            found = self._handlers[key] = method_handler(gate, method, answer)
        return found

"""Server reflection (grpc.reflection.v1alpha): generic clients ask for the services and their messages, those of
plugins' own services among them, as they are at that moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Any

import grpc
import structlog
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from hypersdk_kernel.hosting.ownapi import OwnServices
from hypersdk_kernel.server.methods import Gate
from hypersdk_kernel.server.refusals import refuse

SERVICE = reflection.SERVICE_NAME


class LiveReflection(ReflectionServicer):  # type: ignore[misc]  # grpc_reflection has no types
    """Asks our own pool first and then those of plugins. `live`: the plugins' services now, each set in its pool."""

    def __init__(self, services: Collection[str], live: Callable[[], Iterable[OwnServices]]) -> None:
        super().__init__(sorted(services))
        self._live = live

    def _list_services(self, request: Any) -> Any:
        answer = super()._list_services(request)
        names = sorted(name for own in self._live() for name in own.services)
        answer.list_services_response.service.extend(reflection_pb2.ServiceResponse(name=name) for name in names)
        return answer

    def _file_by_filename(self, request: Any, filename: str) -> Any:
        return self._first(super()._file_by_filename(request, filename), "_file_by_filename", request, filename)

    def _file_containing_symbol(self, request: Any, symbol: str) -> Any:
        ours = super()._file_containing_symbol(request, symbol)
        return self._first(ours, "_file_containing_symbol", request, symbol)

    def _first(self, ours: Any, question: str, request: Any, name: str) -> Any:
        if not ours.HasField("error_response"):
            return ours
        for own in self._live():
            answer = getattr(ReflectionServicer((), pool=own.pool), question)(request, name)
            if not answer.HasField("error_response"):
                return answer
        return ours


def reflection_handlers(
    gate: Gate, services: Collection[str], live: Callable[[], Iterable[OwnServices]] = tuple
) -> grpc.GenericRpcHandler:
    """For `services`, domain services among them, and plugins' own. Authenticated and counted like every other
    stream."""
    servicer = LiveReflection({*services, SERVICE}, live)
    log = structlog.get_logger("hypersdk_kernel.server").bind(method=f"/{SERVICE}/ServerReflectionInfo")

    async def handle(requests: AsyncIterator[Any], context: Any) -> None:
        try:
            gate.authenticator.actor(context.peer(), context.invocation_metadata())
            with gate.streams.slot():
                async for answer in servicer.ServerReflectionInfo(requests, context):
                    await context.write(answer)
        except Exception as exc:  # noqa: BLE001 - the edge, as in methods
            await refuse(context, log, exc)

    handler = grpc.stream_stream_rpc_method_handler(
        handle,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"ServerReflectionInfo": handler})

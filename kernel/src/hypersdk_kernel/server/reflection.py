"""Server reflection (grpc.reflection.v1alpha): generic clients ask for the services and their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
import structlog
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from hypersdk_kernel.server.methods import Gate
from hypersdk_kernel.server.refusals import refuse

SERVICE = reflection.SERVICE_NAME


def reflection_handlers(gate: Gate, services: Collection[str]) -> grpc.GenericRpcHandler:
    """For `services`, domain services among them. Authenticated and counted like every other stream."""
    servicer = ReflectionServicer(sorted({*services, SERVICE}))
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

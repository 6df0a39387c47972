"""One wrapper around every method: authenticate, parse, validate, answer within the deadline, translate errors, log.

grpc.aio's interceptors cost 30 to 50 µs each; a wrapper around the bare handler costs less than 10 in all. Messages
are parsed and written here, not by gRPC, so that a request which is no message is answered INVALID_ARGUMENT and one
answer too large for the client RESOURCE_EXHAUSTED.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypersdk.errors import HyperError, InvalidArgument, ResourceExhausted

from hypersdk_kernel.security.authn import Authenticator
from hypersdk_kernel.server.auditing import Auditor, action_of, changes_something
from hypersdk_kernel.server.refusals import refuse
from hypersdk_kernel.server.streams import Streams, stopping
from hypersdk_kernel.server.validation import RequestValidator
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.status import code_name
from hypersdk_kernel.store.audit import AuditedCall
from hypersdk_kernel.store.requests import RequestKey

if TYPE_CHECKING:
    from hypersdk_kernel.server.metrics import MethodMeter, Metrics
    from hypersdk_kernel.server.tracing import OpenCall, Tracer

PUBLIC_ACTOR = "anyone"


@dataclass(frozen=True, slots=True)
class Gate:
    """What every call passes. Times in seconds, sizes in bytes. `auditor`: None when nothing is audited,
    `metrics`: None when nothing is counted, `tracer`: when nothing is traced."""

    authenticator: Authenticator
    validator: RequestValidator
    streams: Streams
    call_timeout_s: float
    max_message_bytes: int
    auditor: Auditor | None = None
    metrics: Metrics | None = None
    tracer: Tracer | None = None


Handler = Callable[[Any, Call], Any]


def service_handlers(gate: Gate, service: Service) -> grpc.GenericRpcHandler:
    """All methods of a service. AttributeError when one is neither there nor declared as unserved."""
    handlers = {}
    for method in service.descriptor.methods:
        if method.name in service.unserved:
            continue
        wrap = unary_handler
        if method.server_streaming or method.client_streaming:
            wrap = stream_handler if method.server_streaming else upload_handler
        handlers[method.name] = wrap(
            gate, _Entry(method, f"/{service.descriptor.full_name}/{method.name}", service.public),
            service.method(method.name),
        )  # fmt: skip
    return grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)


class _Entry:
    """The way in of one method: from bytes and context to a checked request and its Call."""

    def __init__(self, method: MethodDescriptor, path: str, public: bool) -> None:
        self.path = path
        self.log = structlog.get_logger("hypersdk_kernel.server").bind(method=path)
        self._public = public
        self._parse = GetMessageClass(method.input_type).FromString
        self._has_request_id = "request_id" in method.input_type.fields_by_name
        self._action = action_of(method) if changes_something(method) and not public else ""

    def part(self, gate: Gate, raw: bytes) -> Message:
        """A further message of an upload. Raises InvalidArgument (MESSAGE_MALFORMED, FIELD_INVALID)."""
        try:
            request = self._parse(raw)
        except DecodeError as exc:
            raise _malformed(exc) from exc
        gate.validator.check(request)
        return request

    def admit(self, gate: Gate, raw: bytes, context: Any, timeout_s: float) -> tuple[Message, Call]:
        """Raises Unauthenticated, ResourceExhausted, InvalidArgument (MESSAGE_MALFORMED, FIELD_INVALID)."""
        actor = PUBLIC_ACTOR
        if not self._public:
            peer = context.peer()
            authenticator = gate.authenticator
            bare = peer.startswith("unix:") and not authenticator.needs_metadata
            actor = authenticator.actor(peer, None if bare else context.invocation_metadata())
        request = self.part(gate, raw)
        return request, Call(actor, self._key(request), timeout_s)

    def begin(self, gate: Gate, request: Message, call: Call) -> AuditedCall | None:
        """The call in the audit trail, if it belongs there."""
        if not self._action or gate.auditor is None:
            return None
        return gate.auditor.begin(self._action, call.actor, request)

    def refused(
        self,
        gate: Gate,
        call: Call | None,
        audited: AuditedCall | None,
        meter: MethodMeter | None = None,
        started: float = 0.0,
        traced: OpenCall | None = None,
    ) -> Callable[[HyperError], None]:
        """What a refusal is told to. `call`: None when it was not let in. `started`: by perf_counter."""

        def tell(error: HyperError) -> None:
            if meter is not None:
                meter.refused(code_name(error), time.perf_counter() - started)
            if traced is not None and gate.tracer is not None:
                gate.tracer.refused(traced, error)
            if self._action and gate.auditor is not None and (call is None or audited is not None):
                gate.auditor.refused(self._action, audited, error)

        return tell

    def _key(self, request: Any) -> RequestKey | None:
        if not self._has_request_id or not request.request_id:
            return None
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        return RequestKey(request.request_id.lower(), self.path, digest)


def unary_handler(gate: Gate, entry: _Entry, method: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    """The wrapper of a unary method."""
    log = entry.log
    meter = gate.metrics.method(entry.path) if gate.metrics is not None else None
    tracer = gate.tracer

    async def handle(raw: bytes, context: Any) -> bytes:
        started = time.perf_counter()
        left_s = context.time_remaining()
        call: Call | None = None
        audited: AuditedCall | None = None
        traced = None if tracer is None else tracer.begin(entry.path, context.invocation_metadata())
        try:
            request, call = entry.admit(gate, raw, context, gate.call_timeout_s if left_s is None else left_s)
            audited = entry.begin(gate, request, call)
            if left_s is None:
                async with asyncio.timeout(gate.call_timeout_s):
                    answer = await method(request, call)
            else:  # gRPC itself cancels this task when the client's deadline is over
                answer = await method(request, call)
            if audited is not None and gate.auditor is not None:
                await gate.auditor.answered(audited, answer)
            data: bytes = answer.SerializeToString()
            if len(data) > gate.max_message_bytes:
                raise _too_large(len(data), gate.max_message_bytes)
        except Exception as exc:  # noqa: BLE001 - the edge: every error becomes a status here, and only here
            await refuse(context, log, exc, entry.refused(gate, call, audited, meter, started, traced))
        if traced is not None and tracer is not None:
            tracer.answered(traced, answer)
        if meter is not None:
            meter.answered(time.perf_counter() - started)
        log.debug("call_answered", actor=call.actor, milliseconds=round((time.perf_counter() - started) * 1000, 3))
        return data

    return grpc.unary_unary_rpc_method_handler(handle)


def stream_handler(gate: Gate, entry: _Entry, method: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    """The wrapper of a method that answers with a stream."""
    log = entry.log

    async def answer(raw: bytes, context: Any) -> None:
        request, call = entry.admit(gate, raw, context, context.time_remaining() or float("inf"))
        stream = gate.streams.stream(context.write)
        with gate.streams.slot():
            log.debug("stream_opened", actor=call.actor)
            async with contextlib.aclosing(method(request, call)) as parts:
                async for part in parts:
                    await stream.send(part)

    async def handle(raw: bytes, context: Any) -> None:
        try:
            await answer(raw, context)
        except asyncio.CancelledError:
            if not gate.streams.draining:
                raise  # the client has gone
            await refuse(context, log, stopping())
        except Exception as exc:  # noqa: BLE001 - as for unary methods
            await refuse(context, log, exc)
        log.debug("stream_closed")

    return grpc.unary_stream_rpc_method_handler(handle)


def upload_handler(gate: Gate, entry: _Entry, method: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    """The wrapper of a method that a client sends a stream to. `method` gets the messages as an async iterator."""
    log = entry.log

    async def handle(parts: AsyncIterator[bytes], context: Any) -> bytes:
        left_s = context.time_remaining() or gate.call_timeout_s
        call: Call | None = None
        audited: AuditedCall | None = None
        try:
            async with asyncio.timeout(left_s):
                raw = await anext(aiter(parts), None)
                if raw is None:
                    raise InvalidArgument("the stream has no message", reason="MESSAGE_MALFORMED")
                first, call = entry.admit(gate, raw, context, left_s)
                audited = entry.begin(gate, first, call)

                async def messages() -> AsyncIterator[Message]:
                    yield first
                    async for more in parts:
                        yield entry.part(gate, more)

                answer = await method(messages(), call)
            if audited is not None and gate.auditor is not None:
                await gate.auditor.answered(audited, answer)
            data: bytes = answer.SerializeToString()
        except Exception as exc:  # noqa: BLE001 - as for unary methods
            await refuse(context, log, exc, entry.refused(gate, call, audited))
        log.debug("upload_answered", actor=call.actor)
        return data

    return grpc.stream_unary_rpc_method_handler(handle)


def method_handler(gate: Gate, method: MethodDescriptor, answer: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    """One unary method, authenticated."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    return unary_handler(gate, _Entry(method, path, public=False), answer)


def routed_handlers(
    gate: Gate, descriptor: Any, call_route: Callable[[str], Callable[[Any, Call], Awaitable[Message]]]
) -> grpc.GenericRpcHandler:
    """All methods of a domain service. `call_route` gives for a method's name what answers it."""
    handlers = {
        method.name: unary_handler(
            gate, _Entry(method, f"/{descriptor.full_name}/{method.name}", public=False), call_route(method.name)
        )
        for method in descriptor.methods
    }
    return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)


def _malformed(exc: DecodeError) -> InvalidArgument:
    return InvalidArgument(
        f"the request is not a message of its type, or holds text that is not UTF-8: {exc}",
        reason="MESSAGE_MALFORMED",
    )


def _too_large(size: int, limit: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the answer has {size} bytes and the limit is {limit}; ask for smaller pages",
        reason="ANSWER_TOO_LARGE",
        retryable=False,
    )

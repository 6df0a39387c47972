"""Spans on their way to a collector: OTLP over HTTP in its JSON encoding (opentelemetry-proto 1.x).

Written here and not taken from the OpenTelemetry SDK, which gives spans its own ids and times, while ours follow from
jobs and are known when a job has ended; it is one POST. Best effort: a collector that is away or slow costs a bounded
queue and a line in the log, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import structlog
from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_kernel import __version__
from hypersdk_kernel.model.tracecontext import TraceContext

INTERNAL, SERVER, CLIENT = 1, 2, 3
QUEUE = 4096
BATCH = 512
EVERY_S = 2.0
TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Span:
    """Times in seconds since the epoch. `parent_id`: span id, empty for a root. `error`: a reason, empty for none."""

    name: str
    context: TraceContext
    start: float
    end: float
    parent_id: str = ""
    kind: int = INTERNAL
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    error: str = ""
    links: Sequence[TraceContext] = ()


class Exporter:
    """Its life: `start`, `add` any number of times, `close` (sends what is queued, within TIMEOUT_S)."""

    def __init__(self, endpoint: str) -> None:
        """`endpoint`: `http://host:4318`; `/v1/traces` is appended. Raises InvalidArgument (CONFIG_INVALID)."""
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            text = "must be http://host:port or https://host:port, without a user"
            raise InvalidArgument(
                f"otlp_endpoint {text}", reason="CONFIG_INVALID", violations=(FieldViolation("otlp_endpoint", text),)
            )
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/") + "/v1/traces"
        self._queue: deque[Span] = deque()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.dropped = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def add(self, span: Span) -> None:
        """On the loop. Costs an append."""
        if len(self._queue) >= QUEUE:
            self.dropped += 1
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH:
            self._full.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self.flush()

    async def flush(self) -> None:
        """Send what is queued now."""
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            try:
                await asyncio.to_thread(self._post, body_of(batch))
                self._failing = False
            except (OSError, http.client.HTTPException) as exc:
                self.dropped += len(batch)
                if not self._failing:
                    log.warning("spans_not_sent", error=str(exc), dropped=self.dropped)
                self._failing = True
                return

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._full.wait()
            self._full.clear()
            await self.flush()

    def _post(self, body: bytes) -> None:
        make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = make(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise http.client.HTTPException(f"the collector answered {status}")


def body_of(spans: Sequence[Span]) -> bytes:
    """An ExportTraceServiceRequest."""
    resource = {"attributes": _attributes({"service.name": "hypersdkd", "service.version": __version__})}
    scope = {"scope": {"name": "hypersdk_kernel"}, "spans": [_span(span) for span in spans]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}).encode()


def _span(span: Span) -> dict[str, Any]:
    out: dict[str, Any] = {
        "traceId": span.context.trace_id, "spanId": span.context.span_id, "name": span.name, "kind": span.kind,
        "startTimeUnixNano": str(round(span.start * 1e9)),
        "endTimeUnixNano": str(round(max(span.start, span.end) * 1e9)),
        "attributes": _attributes(span.attributes),
        "status": {"code": 2, "message": span.error} if span.error else {"code": 1},
    }  # fmt: skip
    if span.parent_id:
        out["parentSpanId"] = span.parent_id
    if span.links:
        out["links"] = [{"traceId": link.trace_id, "spanId": link.span_id} for link in span.links]
    return out


def _attributes(values: Mapping[str, str | int | float | bool]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value[:1024]}

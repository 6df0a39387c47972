"""Traces from a call to the runner: which spans there are. Made only when `otlp_endpoint` is set.

    SERVER  hypersdk.api.jobs.v1.JobService/CreateJob     in the caller's trace; linked to the job it made
    CLIENT    plugin provider/directory ListMachines      a call to a host, below the call that needed it
    INTERNAL job export                                   in a trace of the job's own: its id is the job's uid
    INTERNAL   queued
    INTERNAL   attempt 1
    INTERNAL     load, run                                timed and journaled by the runner, exported here

A job's spans are made when it has ended, from its events and its journals: nothing is kept for jobs that go on, but of
those that wait or run now when they began to.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypersdk.errors import HyperError

from hypersdk_kernel.model.event import Event
from hypersdk_kernel.model.job import Job, JobState
from hypersdk_kernel.model.tracecontext import TraceContext, of_job, parse
from hypersdk_kernel.server.otlp import CLIENT, SERVER, Exporter, Span
from hypersdk_kernel.store import codec

JOBS_TIMED = 100_000
RUNNER_SPANS = 100
_MAX_LINE = 64 << 10
_ENDED = frozenset({"job.succeeded", "job.failed", "job.cancelled"})


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that is being answered."""

    path: str
    context: TraceContext
    parent_id: str
    start: float


_current: ContextVar[OpenCall | None] = ContextVar("hypersdk_call", default=None)


class Tracer:
    """On the loop. `attempt_dir`: of a job's uid and an attempt's number."""

    def __init__(self, exporter: Exporter, attempt_dir: Callable[[str, int], Path]) -> None:
        self._exporter = exporter
        self._attempt_dir = attempt_dir
        self._since: dict[str, float] = {}
        self._reading: set[asyncio.Task[None]] = set()

    # Calls.

    def begin(self, path: str, metadata: Any) -> OpenCall:
        """`metadata`: pairs; a `traceparent` among them is the caller's."""
        given = next((value for key, value in metadata or () if key == "traceparent"), None)
        parent = parse(given) if isinstance(given, str) else None
        trace_id = parent.trace_id if parent is not None else secrets.token_hex(16)
        own = TraceContext(trace_id, secrets.token_hex(8))
        call = OpenCall(path, own, parent.span_id if parent is not None else "", time.time())
        _current.set(call)  # each call has a task, and so a context, of its own
        return call

    def answered(self, call: OpenCall, answer: Any) -> None:
        links, attributes = [], {"rpc.system": "grpc", "rpc.method": call.path}
        name, uid = getattr(answer, "name", ""), getattr(answer, "uid", "")
        if uid and isinstance(name, str) and name.startswith("jobs/"):
            links.append(of_job(uid))
            attributes["hypersdk.job"] = name
        self._call(call, "", attributes, links)

    def refused(self, call: OpenCall, error: HyperError) -> None:
        self._call(call, error.reason, {"rpc.system": "grpc", "rpc.method": call.path}, ())

    def _call(self, call: OpenCall, error: str, attributes: dict[str, str], links: Sequence[TraceContext]) -> None:
        self._exporter.add(
            Span(call.path[1:], call.context, call.start, time.time(), call.parent_id, SERVER, attributes, error, links)
        )

    def host_called(self, component: str, method: str, seconds: float, error: HyperError | None) -> None:
        """A call to a host has ended."""
        call = _current.get()
        trace_id = call.context.trace_id if call is not None else secrets.token_hex(16)
        end = time.time()
        self._exporter.add(
            Span(
                f"plugin {component} {method}", TraceContext(trace_id, secrets.token_hex(8)), end - seconds, end,
                call.context.span_id if call is not None else "", CLIENT, {"hypersdk.component": component},
                error.reason if error is not None else "",
            )
        )  # fmt: skip

    # Jobs.

    def publish(self, events: Sequence[Event]) -> None:
        """Events that are durable."""
        for event in events:
            job = codec.job_of(event.payload) if event.type.startswith("job.") else None
            if job is not None:
                self._job(event, job)

    def _job(self, event: Event, job: Job) -> None:
        root = of_job(job.uid)
        since = self._since.pop(job.id, None)
        if event.type == "job.running" and since is not None:
            queued = TraceContext(root.trace_id, secrets.token_hex(8))
            self._exporter.add(Span("queued", queued, since, event.time, root.span_id))
        if (event.type in _ENDED or event.type == "job.retrying") and job.attempt_start and job.attempt_count:
            self._attempt(event, job, root)
        if event.type in _ENDED:
            error = str((job.error or {}).get("reason") or "") if job.state is JobState.FAILED else ""
            told = {"hypersdk.job": job.name, "hypersdk.task": job.task, "hypersdk.state": job.state.value}
            self._exporter.add(
                Span(f"job {job.task}", root, job.create_time, event.time, attributes=told, error=error)
            )
        elif job.state is JobState.QUEUED and len(self._since) < JOBS_TIMED:
            self._since[job.id] = event.time if since is None else since

    def _attempt(self, event: Event, job: Job, root: TraceContext) -> None:
        own = of_job(job.uid, job.attempt_count)
        error = str((job.error or {}).get("reason") or "") if job.state is not JobState.SUCCEEDED else ""
        started = job.attempt_start or event.time
        self._exporter.add(
            Span(f"attempt {job.attempt_count}", own, started, event.time, root.span_id, error=error)
        )
        task = asyncio.create_task(self._runner(self._attempt_dir(job.uid, job.attempt_count), own))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _runner(self, folder: Path, parent: TraceContext) -> None:
        for record in await asyncio.to_thread(runner_spans, folder / "journal.jsonl"):
            own = TraceContext(parent.trace_id, secrets.token_hex(8))
            self._exporter.add(
                Span(record["name"], own, record["start"], record["end"], parent.span_id, error=record["error"])
            )

    async def close(self) -> None:
        await asyncio.gather(*self._reading, return_exceptions=True)


def runner_spans(journal: Path) -> list[dict[str, Any]]:
    """What a runner timed, checked: a plugin shares its process and could have written anything."""
    found: list[dict[str, Any]] = []
    try:
        with journal.open("rb") as file:
            while len(found) < RUNNER_SPANS and (line := file.readline(_MAX_LINE)):
                if b'"type":"span"' in line:
                    found += _checked(line)
    except OSError:
        return found
    return found


def _checked(line: bytes) -> list[dict[str, Any]]:
    try:
        record = json.loads(line)
        start, end = float(record["start"]), float(record["end"])
        name, error = str(record["name"])[:100], str(record.get("error") or "")[:64]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    if not 0 <= start <= end < 1e11:
        return []
    return [{"name": name, "start": start, "end": end, "error": error}]

"""Auditing of calls: every method that can change something leaves a row, whoever answers it.

A call's row is appended by the first write that is done for it (store.audit), so it is as durable as the change and
costs no commit of its own. What changes nothing in the store (an object deleted by a plugin) gets its row when it has
been answered. A refused call gets one soon after, within a rate: a flood of refusals must not fill the
disk, so those above it are only counted, and the next row tells how many.

Whether a method can change something is told by its HTTP rule (GET does not) and its verb; one that nobody thought of
is audited. `validate_only` requests change nothing and are not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor
from hypersdk.errors import HyperError

from hypersdk_kernel.model.audit import AuditNote
from hypersdk_kernel.model.clock import Clock
from hypersdk_kernel.store.audit import AuditedCall, current
from hypersdk_kernel.store.engine import Tx

log = structlog.get_logger(__name__)

READING = ("Get", "List", "Watch", "Stream", "Check", "Test", "Inspect", "Wait", "Preview", "Explain", "Evaluate",
           "Estimate", "Compare", "Project", "Verify", "Export", "Plan", "WhoAmI", "Search", "Query",
           "Report")  # fmt: skip
NOBODY = "unauthenticated"
_BURST, _PER_SECOND = 200.0, 20.0
_CLOSE_S = 5.0


class Writer(Protocol):
    """What auditing needs of the store."""

    async def write(self, fn: Callable[[Tx], None]) -> None: ...


def changes_something(method: MethodDescriptor) -> bool:
    """Whether calls of a method are audited."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return not rule.get and not method.name.startswith(READING)


def action_of(method: MethodDescriptor) -> str:
    """`JobService.CreateJob`."""
    return f"{method.containing_service.name}.{method.name}"


def subject_of(request: Any) -> str:
    """The resource that a request names; empty when it names none. Of a stream's first message it is the file."""
    for field in ("name", "parent"):
        value = getattr(request, field, "")
        if isinstance(value, str) and value:
            return value
    upload = getattr(request, "upload", None)
    return str(getattr(upload, "file_name", ""))


def rehearsed(request: Any) -> bool:
    """Whether the request asks for no effect."""
    part = getattr(request, "upload", request)
    return bool(getattr(part, "validate_only", False))


class Auditor:
    """Its life: any number of calls, then `close`."""

    def __init__(self, store: Writer, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._left, self._then = _BURST, clock.monotonic()
        self._uncounted = 0

    def begin(self, action: str, actor: str, request: Any) -> AuditedCall | None:
        """A call has come in; None when it will have no effect. The task of the call speaks for it from now on."""
        if rehearsed(request):
            return None
        call = AuditedCall(actor, action, subject_of(request))
        current.set(call)
        return call

    async def answered(self, call: AuditedCall, answer: Any) -> None:
        """It has been done. What it did has happened, so a failure to write it down is logged and not raised."""
        if call.written:
            call.over = True
            return
        call.over = True  # the row below is its last
        note = AuditNote(call.actor, call.action, call.subject or subject_of(answer), details=call.details)
        await self._append(note)

    def refused(self, action: str, call: AuditedCall | None, error: HyperError) -> None:
        """It has been refused; `call` is None when it was not even let in."""
        if call is not None:
            call.over = True
        actor, subject = (call.actor, call.subject) if call is not None else (NOBODY, "")
        if not self._admit():
            self._uncounted += 1
            return
        details = {"suppressed": self._uncounted} if self._uncounted else {}
        self._uncounted = 0
        self.note(AuditNote(actor, action, subject, error.reason, details))

    def note(self, note: AuditNote) -> None:
        """Append a row soon."""
        task = asyncio.get_running_loop().create_task(self._append(note))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write what is to be written."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=_CLOSE_S)

    async def _append(self, note: AuditNote) -> None:
        def write(tx: Tx) -> None:
            tx.notes.append(note)

        try:
            await self._store.write(write)
        except HyperError as exc:
            log.error("audit_lost", actor=note.actor, action=note.action, subject=note.subject,
                      outcome=note.outcome, reason=exc.reason)  # fmt: skip

    def _admit(self) -> bool:
        now = self._clock.monotonic()
        self._left = min(_BURST, self._left + (now - self._then) * _PER_SECOND)
        self._then = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

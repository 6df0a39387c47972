"""AuditService."""

from __future__ import annotations

import json
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from hypersdk.api.audit.v1 import audit_pb2 as pb
from hypersdk.errors import FieldViolation, InvalidArgument
from sqlalchemy import Connection

from hypersdk_kernel.model.audit import GENESIS, AuditEntry, fault
from hypersdk_kernel.model.filter import parse
from hypersdk_kernel.model.filter_fields import Field, Kind
from hypersdk_kernel.services import pages
from hypersdk_kernel.services.call import Call, Service
from hypersdk_kernel.services.values import struct, timestamp
from hypersdk_kernel.store import audit as rows
from hypersdk_kernel.store.tables import audit as table

FILTER_FIELDS = {
    "actor": Field(Kind.TEXT, operator.attrgetter("actor"), table.c.actor),
    "action": Field(Kind.TEXT, operator.attrgetter("action"), table.c.action),
    "subject": Field(Kind.TEXT, operator.attrgetter("subject"), table.c.subject),
    "outcome": Field(Kind.TEXT, operator.attrgetter("outcome"), table.c.outcome),
    "time": Field(Kind.TIME, operator.attrgetter("time"), table.c.time),
}
_ORDERS = ("seq", "seq desc")

T = TypeVar("T")


class Reader(Protocol):
    """What this service needs of the store."""

    def read(self, fn: Callable[[Connection], T]) -> Awaitable[T]: ...


class AuditService(Service):
    """Reads the audit trail and proves it. Nothing here writes."""

    descriptor = pb.DESCRIPTOR.services_by_name["AuditService"]

    def __init__(self, store: Reader) -> None:
        self._store = store

    async def list_audit_entries(
        self, request: pb.ListAuditEntriesRequest, _call: Call
    ) -> pb.ListAuditEntriesResponse:
        size = pages.page_size(request.page_size)
        order = " ".join(request.order_by.split()) or _ORDERS[0]
        if order not in _ORDERS:
            rule = f"must be one of: {', '.join(_ORDERS)}"
            raise InvalidArgument(
                f"order_by {rule}", reason="ORDER_INVALID", violations=(FieldViolation("order_by", rule),)
            )
        asked = ("audit", request.filter, order)
        key = pages.key_of(request.page_token, (int,), *asked)
        where = parse(request.filter).sql(FILTER_FIELDS)
        after, newest_first = (key[0] if key else 0), order.endswith(" desc")
        found = await self._store.read(
            lambda conn: rows.page(conn, after, size + 1, where, newest_first=newest_first)
        )
        page, token = pages.cut(found, size, lambda entry: pages.token((entry.seq,), *asked))
        return pb.ListAuditEntriesResponse(audit_entries=[_message(e) for e in page], next_page_token=token)

    async def verify_audit_chain(
        self, request: pb.VerifyAuditChainRequest, _call: Call
    ) -> pb.VerifyAuditChainResponse:
        head_seq, head_hash = await self._store.read(rows.head)
        out = pb.VerifyAuditChainResponse(head_seq=head_seq, head_hash=head_hash)
        seq, previous = 0, GENESIS
        while not out.problem and seq < head_seq:
            after = seq
            found = [e for e in await self._store.read(lambda conn, a=after: rows.page(conn, a)) if e.seq <= head_seq]  # type: ignore[misc]
            for entry in found:
                problem = fault(entry, seq + 1, previous)
                if not problem and entry.seq == request.anchor_seq and entry.hash != request.anchor_hash:
                    problem = "it is not the entry that was noted down as the anchor: the chain was written anew"
                if problem:
                    return _bad(out, seq + 1, problem)
                seq, previous = entry.seq, entry.hash
                out.verified_count += 1
            if not found:
                return _bad(out, seq + 1, f"it and all after it are missing: the newest was entry {head_seq}")
        if previous != head_hash:
            return _bad(out, seq, "it is not the newest entry that was written")
        if request.anchor_seq > seq:
            return _bad(out, seq + 1, f"it is missing: entry {request.anchor_seq} was noted down as the anchor")
        beyond = await self._store.read(lambda conn: rows.page(conn, head_seq, 1))
        now_head = await self._store.read(rows.head)
        if beyond and now_head[0] == head_seq:
            return _bad(out, beyond[0].seq, "nothing but the trail itself knows of it")
        out.ok = True
        return out

    async def export_audit_entries(
        self, request: pb.ExportAuditEntriesRequest, _call: Call
    ) -> AsyncIterator[pb.ExportAuditEntriesResponse]:
        last, _ = await self._store.read(rows.head)
        after = request.after_seq
        while after < last:
            found = await self._store.read(lambda conn, a=after: rows.page(conn, a))  # type: ignore[misc]
            if not found:
                return
            yield pb.ExportAuditEntriesResponse(audit_entries=[_message(e) for e in found if e.seq <= last])
            after = found[-1].seq


def _bad(out: pb.VerifyAuditChainResponse, seq: int, problem: str) -> pb.VerifyAuditChainResponse:
    out.first_bad_seq, out.problem = max(seq, 1), problem
    return out


def _message(entry: AuditEntry) -> pb.AuditEntry:
    try:
        details = json.loads(entry.details)
    except ValueError:  # somebody has changed it; the chain tells, and the others are still to be read
        details = {}
    return pb.AuditEntry(
        name=f"auditEntries/{entry.seq}", seq=entry.seq, time=timestamp(entry.time), actor=entry.actor,
        action=entry.action, subject=entry.subject, outcome=entry.outcome,
        details=struct(details if isinstance(details, dict) else {}), prev_hash=entry.prev_hash, hash=entry.hash,
    )  # fmt: skip

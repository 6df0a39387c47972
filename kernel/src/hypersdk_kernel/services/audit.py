"""AuditService."""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from hypersdk.api.audit.v1 import audit_pb2 as pb
from hypersdk.auditchain import AuditEntry, Walk, archived
from hypersdk.errors import FieldViolation, InvalidArgument, from_exception
from sqlalchemy import Connection

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

    def __init__(self, store: Reader, archive: Path) -> None:
        """`archive`: the folder of this kernel's."""
        self._store = store
        self._archive = archive
        self._verifying = asyncio.Lock()

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
        async with self._verifying:  # a million entries take a reader of the store half a minute
            return await self._store.read(lambda conn: self._verify(conn, request))

    def _verify(self, conn: Connection, request: pb.VerifyAuditChainRequest) -> pb.VerifyAuditChainResponse:
        """In one snapshot, so that neither new entries nor those that are archived meanwhile are taken for a fault."""
        head_seq, head_hash = rows.head(conn)
        anchor_seq, anchor_hash = rows.anchor(conn)
        walk = Walk(request.anchor_seq, request.anchor_hash)
        out = pb.VerifyAuditChainResponse(head_seq=head_seq, head_hash=head_hash, first_seq=1)
        if request.archives or 0 < request.anchor_seq <= anchor_seq:
            self._along_archive(walk, anchor_seq, anchor_hash)
        else:
            out.first_seq = anchor_seq + 1
            walk.begin_after(anchor_seq, anchor_hash)
        stray = rows.page(conn, 0, 1)
        if not walk.problem and stray and stray[0].seq <= anchor_seq:
            walk.fail(stray[0].seq, f"all up to {anchor_seq} were archived, and it is in the database")
        if not walk.problem:
            _along_rows(walk, conn, head_seq, head_hash)
        out.ok = walk.end()
        out.verified_count, out.first_bad_seq, out.problem = walk.count, walk.bad_seq, walk.problem
        return out

    def _along_archive(self, walk: Walk, last: int, last_hash: str) -> None:
        """Up to entry `last`; what is there beyond it is still in the store too."""
        try:
            for entry in archived([self._archive]):
                if walk.seq >= last or not walk.step(entry):
                    break
        except OSError as exc:
            raise from_exception(exc, doing="reading the audit archive") from exc
        if not walk.problem and walk.seq < last:
            walk.fail(walk.seq + 1, f"it is missing: all up to {last} were archived, and {self._archive} lacks it")
        elif not walk.problem and walk.hash != last_hash:
            walk.fail(last, "it is not the entry that was archived last")

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


def _along_rows(walk: Walk, conn: Connection, head_seq: int, head_hash: str) -> None:
    while walk.seq < head_seq:
        found = [entry for entry in rows.page(conn, walk.seq) if entry.seq <= head_seq]
        if not found:
            walk.fail(walk.seq + 1, f"it and all after it are missing: the newest was entry {head_seq}")
        if not all(map(walk.step, found)) or walk.problem:
            return
    beyond = rows.page(conn, head_seq, 1)
    if walk.hash != head_hash:
        walk.fail(walk.seq, "it is not the newest entry that was written")
    elif beyond:
        walk.fail(beyond[0].seq, "nothing but the trail itself knows of it")


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

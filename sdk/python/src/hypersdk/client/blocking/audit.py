# Generated from aio/audit.py by `python -m hypersdk.client.generate_sync`; change that file instead.
"""client.audit: who changed what, or was refused."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

import grpc

from hypersdk.api.audit.v1 import audit_pb2, audit_pb2_grpc
from hypersdk.client.blocking.caller import Caller
from hypersdk.client.blocking.pager import Pager


class Audit:
    """Calls of AuditService."""

    def __init__(self, channel: grpc.Channel, caller: Caller) -> None:
        self._stub = audit_pb2_grpc.AuditServiceStub(channel)
        self._caller = caller

    def list(
        self, *, filter: str = "", order_by: str = "", page_size: int = 0  # noqa: A002 - the API's name of it
    ) -> Pager[audit_pb2.ListAuditEntriesResponse, audit_pb2.AuditEntry]:
        """Entries that pass the filter (AIP-160 subset over `actor`, `action`, `subject`, `outcome`, `time`), oldest
        first."""
        return Pager(
            lambda token: self._caller.unary(
                self._stub.ListAuditEntries,
                audit_pb2.ListAuditEntriesRequest(
                    filter=filter, order_by=order_by, page_size=page_size, page_token=token
                ),
            ),
            lambda page: page.audit_entries,
        )

    def verify(
        self,
        *,
        anchor_seq: int = 0,
        anchor_hash: str = "",
        archives: bool = False,
        timeout_s: float | None = 600.0,
    ) -> audit_pb2.VerifyAuditChainResponse:
        """Compute every hash again. `anchor`: an entry whose hash was noted down elsewhere. `archives`: also of the
        entries that the daemon has archived."""
        request = audit_pb2.VerifyAuditChainRequest(
            anchor_seq=anchor_seq, anchor_hash=anchor_hash, archives=archives
        )
        return self._caller.unary(self._stub.VerifyAuditChain, request, timeout_s)

    def export(self, *, after_seq: int = 0) -> Generator[audit_pb2.AuditEntry, None, None]:
        """All entries after `after_seq`, oldest first, to the newest of now."""
        request = audit_pb2.ExportAuditEntriesRequest(after_seq=after_seq)
        parts = self._caller.stream(self._stub.ExportAuditEntries, request)
        with closing(parts):
            for part in parts:
                yield from part.audit_entries

"""hyperctl audit: who changed what, or was refused, and the proof that nobody has changed that record."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import DataLoss, InvalidArgument, NotFound, from_exception

from hyperctl.commands.common import FilterOption, LimitOption, OutputOption, mode_of
from hyperctl.messages import to_plain
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.audit.v1.audit_pb2 import AuditEntry, VerifyAuditChainResponse

app = typer.Typer(help="Who changed what, or was refused.")

COLUMNS: list[Column[AuditEntry]] = [
    Column("SEQ", lambda e: e.seq),
    Column("TIME", lambda e: e.time.ToDatetime().isoformat(timespec="seconds")),
    Column("ACTOR", lambda e: e.actor),
    Column("ACTION", lambda e: e.action),
    Column("SUBJECT", lambda e: e.subject),
    Column("OUTCOME", lambda e: e.outcome),
    Column("HASH", lambda e: e.hash[:12], wide=True),
]


@app.command("list")
def list_entries(
    context: typer.Context, filter_text: FilterOption = "", limit: LimitOption = 100, output: OutputOption = None
) -> None:
    """List entries, newest first."""
    session = Session.of(context)
    found = session.client.audit.list(filter=filter_text, order_by="seq desc", page_size=min(limit or 1000, 1000))
    show_list(islice(found, limit or None), COLUMNS, mode_of(session, output), empty="no entries")


@app.command("verify")
def verify_chain(
    context: typer.Context,
    anchor: Annotated[
        str, typer.Option("--anchor", metavar="SEQ:HASH", help="An entry noted down earlier, as this prints it.")
    ] = "",
    archives: Annotated[
        bool, typer.Option("--archives", help="Begin with the entries that the daemon has archived.")
    ] = False,
    offline: Annotated[
        list[Path] | None,
        typer.Option("--offline", metavar="PATH", help="Ask no daemon: read these archives, files or folders."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Compute every hash again; fails with the first bad entry when the record was changed."""
    session = Session.of(context)
    number, _, digest = anchor.partition(":")
    if anchor and not (number.isdecimal() and len(digest) == 64):
        raise InvalidArgument("--anchor must be SEQ:HASH, as `audit verify` prints them", reason="ANCHOR_INVALID")
    if offline:
        answer = _offline(offline, int(number or 0), digest)
    else:
        answer = session.client.audit.verify(anchor_seq=int(number or 0), anchor_hash=digest, archives=archives)
    show_one(answer, mode_of(session, output))
    if not answer.ok:
        raise DataLoss(f"audit entry {answer.first_bad_seq}: {answer.problem}", reason="AUDIT_CHAIN_BROKEN")


def _offline(paths: list[Path], anchor_seq: int, anchor_hash: str) -> VerifyAuditChainResponse:
    """As the daemon answers. Files may begin anywhere in the chain; `head` is their last entry."""
    from hypersdk.api.audit.v1.audit_pb2 import VerifyAuditChainResponse
    from hypersdk.auditchain import Walk, archived

    walk = Walk(anchor_seq, anchor_hash)
    out = VerifyAuditChainResponse()
    try:
        for entry in archived(paths):
            if not out.first_seq:
                out.first_seq = entry.seq
                walk.begin_after(entry.seq - 1, entry.prev_hash if entry.seq > 1 else walk.hash)
            if not walk.step(entry):
                break
    except OSError as exc:
        raise from_exception(exc, doing="reading the archives") from exc
    if not out.first_seq:
        raise NotFound("there is no archived audit entry in these files", reason="ARCHIVE_EMPTY")
    out.ok = walk.end()
    out.verified_count, out.head_seq, out.head_hash = walk.count, walk.seq, walk.hash
    out.first_bad_seq, out.problem = walk.bad_seq, walk.problem
    return out


@app.command("export")
def export_entries(
    context: typer.Context,
    after: Annotated[int, typer.Option("--after", min=0, help="Only entries after this one.")] = 0,
) -> None:
    """Print all entries, oldest first, one JSON object a line."""
    import json

    for entry in Session.of(context).client.audit.export(after_seq=after):
        typer.echo(json.dumps(to_plain(entry)))

"""hyperctl event: the record of what changed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import FilterOption, LimitOption, OutputOption, mode_of
from hyperctl.output import Column, show_list, show_streamed
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.events.v1.events_pb2 import Event

app = typer.Typer(help="What changed, in order.")

COLUMNS: list[Column[Event]] = [
    Column("REVISION", lambda e: e.revision),
    Column("TIME", lambda e: e.time.ToDatetime().isoformat(timespec="seconds")),
    Column("TYPE", lambda e: e.type),
    Column("SUBJECT", lambda e: e.subject),
    Column("ACTOR", lambda e: e.actor),
]


@app.command("list")
def list_events(
    context: typer.Context, filter_text: FilterOption = "", limit: LimitOption = 100, output: OutputOption = None
) -> None:
    """List events, newest first."""
    session = Session.of(context)
    found = session.client.events.list(
        filter=filter_text, order_by="revision desc", page_size=min(limit or 1000, 1000)
    )
    show_list(islice(found, limit or None), COLUMNS, mode_of(session, output), empty="no events")


@app.command("watch")
def watch_events(
    context: typer.Context,
    since: Annotated[int, typer.Option("--since", min=0, help="After this revision; 0: only new ones.")] = 0,
    filter_text: FilterOption = "",
    output: OutputOption = None,
) -> None:
    """Print events as they happen, until interrupted."""
    session = Session.of(context)
    mode = mode_of(session, output)
    for event in session.client.events.watch(since_revision=since, filter=filter_text):
        show_streamed(event, COLUMNS, mode)

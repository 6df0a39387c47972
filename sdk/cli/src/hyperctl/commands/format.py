"""hyperctl format: the image formats that the daemon can read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from hyperctl import exits
from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import Column, show_list
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.formats.v1.formats_pb2 import Format

app = typer.Typer(help="Disk-image formats.")

COLUMNS: list[Column[Format]] = [
    Column("NAME", lambda f: f.name),
    Column("DISPLAY NAME", lambda f: f.display_name),
    Column("ALIASES", lambda f: ",".join(f.aliases)),
    Column("CAPABILITIES", lambda f: ",".join(f.capabilities)),
    Column("OPTIONS", lambda f: ",".join(sorted(f.create_options)), wide=True),
]


@app.command("list")
def list_formats(context: typer.Context, output: OutputOption = None) -> None:
    """List the formats; `-o yaml` tells their options."""
    session = Session.of(context)
    found = session.client.formats.list()
    show_list(found, COLUMNS, mode_of(session, output), empty="no formats")
    if found.unreachable:
        session.say(f"did not answer: {', '.join(found.unreachable)}\n  next: hyperctl plugin list -o wide")
        raise typer.Exit(exits.PARTIAL)

"""hyperctl system: the daemon itself."""

from __future__ import annotations

import typer

from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import show_one
from hyperctl.session import Session

app = typer.Typer(help="The daemon.")


@app.callback()
def _group() -> None:
    """Keeps `info` a subcommand; typer would otherwise make a single command the group itself."""


@app.command("info")
def system_info(context: typer.Context, output: OutputOption = None) -> None:
    """Show version, addresses, counts, memory, and whether it is draining."""
    session = Session.of(context)
    show_one(session.client.system.info(), mode_of(session, output))

"""hyperctl config: the command line's own settings."""

from __future__ import annotations

from typing import Annotated

import typer

from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import Mode, show_table, show_value
from hyperctl.session import Session
from hyperctl.settings import Setting

app = typer.Typer(help="Settings of this command line.")


@app.callback()
def _group() -> None:
    """Keeps `view` a subcommand; typer would otherwise make a single command the group itself."""


@app.command("view")
def view(
    context: typer.Context,
    show_origin: Annotated[bool, typer.Option("--show-origin", help="Say where each came from.")] = False,
    output: OutputOption = None,
) -> None:
    """Show the settings in effect. Nothing is asked of the daemon."""
    session = Session.of(context)
    mode = mode_of(session, output)
    endpoint = session.endpoint
    rows = {**session.settings, "endpoint": Setting(endpoint.target, "discovery")}
    if endpoint.ca_file and endpoint.token_file:
        rows["endpoint_ca_file"] = Setting(str(endpoint.ca_file), "discovery")
        rows["endpoint_token_file"] = Setting(str(endpoint.token_file), "discovery")
    if mode in {Mode.TABLE, Mode.WIDE}:
        titles = ["SETTING", "VALUE", *(["ORIGIN"] if show_origin else [])]
        show_table(titles, [[key, s.value or "-", s.origin][: len(titles)] for key, s in rows.items()])
    elif show_origin:
        show_value({key: {"value": s.value, "origin": s.origin} for key, s in rows.items()}, mode)
    else:
        show_value({key: s.value for key, s in rows.items()}, mode)

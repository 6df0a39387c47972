"""hyperctl config: the command line's own settings."""

from __future__ import annotations

from typing import Annotated

import typer

from hyperctl.commands.common import OutputOption, mode_of
from hyperctl.output import show_value
from hyperctl.session import Session

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
    values: dict[str, object] = {}
    for key, setting in session.settings.items():
        values[key] = {"value": setting.value, "origin": setting.origin} if show_origin else setting.value
    endpoint = session.endpoint
    values["endpoint"] = {
        "target": endpoint.target, "ca_file": str(endpoint.ca_file or ""), "token_file": str(endpoint.token_file or ""),
    }  # fmt: skip
    show_value(values, mode_of(session, output))

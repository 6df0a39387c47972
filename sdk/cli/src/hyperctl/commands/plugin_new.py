"""hyperctl plugin new: a plugin's distribution from a template. No daemon is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hyperctl.commands.common import DryRunOption
from hyperctl.session import Session


def register(app: typer.Typer) -> None:
    app.command("new")(new_plugin)


def new_plugin(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="provider, format, storage, task, …")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The component's id, such as acme-cloud.")],
    directory: Annotated[
        Path | None, typer.Option("--dir", help="A new directory; hypersdk-KIND-NAME if left out.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Write a plugin that installs, passes its tests and runs as it is."""
    from hypersdk.templates import plan

    scaffold = plan(kind, name, directory)
    if not dry_run:
        scaffold.write()
    for path in scaffold.files:
        sys.stdout.write(f"{scaffold.directory / path}\n")
    session = Session.of(context)
    if dry_run:
        session.say("nothing was written (--dry-run)")
    else:
        for command in ("test", "dev"):
            session.say(f"  next: hyperctl plugin {command} {scaffold.directory}")

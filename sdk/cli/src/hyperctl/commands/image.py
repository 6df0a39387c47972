"""The entry of `hyperctl image` in the help and in completion. `__main__` normally dispatches before typer loads."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        "image",
        help="Look at, convert, check and compare image files, without a daemon.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(_image)


def _image(context: typer.Context) -> None:
    from hyperctl.image.entry import run

    raise typer.Exit(run(context.args))

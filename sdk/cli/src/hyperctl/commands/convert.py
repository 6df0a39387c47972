"""hyperctl convert: an image file into another format, as a job of the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hyperctl.commands.common import DryRunOption, LongOutputOption, complete_format, mode_of
from hyperctl.commands.submit import DetachOption, PriorityOption, RateOption, submit
from hyperctl.pairs import parse_option_list
from hyperctl.session import Session


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("convert")(convert)


def convert(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Image file on the daemon's machine.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="File to write there.")],
    target_format: Annotated[
        str, typer.Option("-O", "--target-format", help="qcow2, vmdk, raw, …", autocompletion=complete_format)
    ],
    source_format: Annotated[str, typer.Option("-f", "--source-format", help="Probed if left out.")] = "",
    option: Annotated[list[str] | None, typer.Option("-o", metavar="KEY=VALUE,…", help="Of the target.")] = None,
    compress: Annotated[bool, typer.Option("-c", "--compress", help="Compress the target.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST if it is there.")] = False,
    priority: PriorityOption = None,
    rate_limit: RateOption = None,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    output: LongOutputOption = None,
) -> None:
    """Convert an image on the daemon's machine, and wait for it. `hyperctl image convert` does it without a daemon."""
    session = Session.of(context)
    spec: dict[str, object] = {
        "source_path": str(source.absolute()),
        "target_path": str(target.absolute()),
        "format": target_format,
        "options": parse_option_list(option or ()),
        "compress": compress,
        "overwrite": overwrite,
    }
    if source_format:
        spec["source_format"] = source_format
    status = submit(
        session, "convert", spec, priority=priority, rate_limit=rate_limit, detach=detach, dry_run=dry_run,
        mode=mode_of(session, output),
    )  # fmt: skip
    raise typer.Exit(status)

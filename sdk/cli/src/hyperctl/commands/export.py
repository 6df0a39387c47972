"""hyperctl export: a machine's disks, or an image of this machine, to a storage."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from hyperctl.commands.common import (
    DryRunOption,
    LongOutputOption,
    complete_connection,
    complete_format,
    complete_machine,
    mode_of,
)  # fmt: skip
from hyperctl.commands.submit import DetachOption, PriorityOption, RateOption, submit
from hyperctl.endpoints import PathConnections, resolve_source, resolve_target
from hyperctl.output import show_value
from hyperctl.pairs import parse_option_list
from hyperctl.session import Session

_DEFAULT_FORMAT = "qcow2"


class Package(StrEnum):
    """What `--package` may be."""

    OVA = "ova"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("export")(export)


def export(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A machine (connections/x/machines/y, x/y), or a path of an image or OVF.",
            autocompletion=complete_machine,
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", help="A storage connection, or a directory.", autocompletion=complete_connection)
    ],
    target_format: Annotated[
        str | None,
        typer.Option("--format", "-O", help="qcow2 (default), vmdk, raw, …", autocompletion=complete_format),
    ] = None,
    package: Annotated[
        Package | None, typer.Option("--package", help="One package of the whole machine, instead of its disks.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option("-o", metavar="KEY=VALUE,…", help="Of the format.")] = None,
    compress: Annotated[bool, typer.Option("-c", "--compress", help="Compress the disks.")] = False,
    disk: Annotated[list[str] | None, typer.Option("--disk", help="Only this disk; repeatable.")] = None,
    prefix: Annotated[str, typer.Option(help="Put the files below this key.")] = "",
    priority: PriorityOption = None,
    rate_limit: RateOption = None,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    output: LongOutputOption = None,
) -> None:
    """Export a machine, and wait for it."""
    session = Session.of(context)
    paths = PathConnections(session, dry_run=dry_run)
    found = resolve_source(paths, source)
    spec: dict[str, object] = {
        "machine": found.machine,
        "target": resolve_target(paths, target),
        "options": parse_option_list(option or ()),
        "compress": compress,
    }
    if package is not None:
        spec["package"] = package.value
    if target_format or package is None:  # a package decides on the format of its disks
        spec["format"] = target_format or _DEFAULT_FORMAT
    if prefix:
        spec["prefix"] = prefix
    disks = disk or found.disks
    if disks:
        spec["disks"] = list(disks)
    if paths.pending:
        session.say("nothing was made or started; the job can be checked once its connections exist. It would be:")
        show_value({"task": "export", "spec": spec}, mode_of(session, output))
        return
    status = submit(
        session, "export", spec, priority=priority, rate_limit=rate_limit, detach=detach, dry_run=dry_run,
        mode=mode_of(session, output),
    )  # fmt: skip
    raise typer.Exit(status)

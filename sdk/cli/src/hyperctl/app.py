"""The typer application: global flags, one group a noun, errors turned into exit codes in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from hypersdk.errors import HyperError
from typer.core import TyperGroup

from hyperctl import exits, failures, settings
from hyperctl.commands import (
    audit,
    config,
    connection,
    convert,
    event,
    export,
    group,
    image,
    job,
    limit,
    machine,
    plugin,
    price,
    queue,
    schedule,
    storage,
    subscription,
    system,
    window,
)
from hyperctl.commands import format as format_command
from hyperctl.session import Session


class _Root(TyperGroup):
    """Where every command's errors end: printed once, and an exit code of `exits`."""

    def invoke(self, ctx: Any) -> Any:
        command = ""
        try:
            command = _command_of(ctx)
            return super().invoke(ctx)
        except HyperError as error:
            raise typer.Exit(failures.report(error, command)) from error
        except KeyboardInterrupt as exc:
            raise typer.Exit(exits.INTERRUPTED) from exc


def _command_of(ctx: Any) -> str:
    """What was typed, without options and arguments: "job get"."""
    words = [w for w in (*getattr(ctx, "_protected_args", ()), *ctx.args) if not w.startswith("-")]
    command: Any = ctx.command
    path: list[str] = []
    for word in words:
        commands = getattr(command, "commands", {})
        if word not in commands:
            continue
        command = commands[word]
        path.append(word)
    return " ".join(path)


app = typer.Typer(
    name="hyperctl",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Move, convert and look after virtual machines' disks, through a HyperSDK daemon (and `image` without one).",
)


@app.callback()
def _globals(
    context: typer.Context,
    address: Annotated[str | None, typer.Option(help="The daemon: unix:/path or host:port.")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of the configuration file.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Longest wait for one answer: 30s, 2m.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No talk and no progress on stderr.")] = False,
) -> None:
    flags = {"address": address, "profile": profile, "timeout": timeout}
    session = Session(settings.resolve(flags), quiet)
    context.obj = session
    context.call_on_close(session.close)


for _name, _group in (
    ("job", job.app), ("group", group.app), ("queue", queue.app), ("limit", limit.app), ("window", window.app),
    ("schedule", schedule.app), ("connection", connection.app), ("machine", machine.app),
    ("plugin", plugin.app), ("event", event.app), ("subscription", subscription.app), ("audit", audit.app),
    ("format", format_command.app),
    ("storage", storage.app), ("price", price.app), ("system", system.app), ("config", config.app),
):  # fmt: skip
    app.add_typer(_group, name=_name, no_args_is_help=True)
export.register(app)
convert.register(app)
image.register(app)


def run(arguments: Sequence[str]) -> int:
    """Exit status of one command line."""
    return failures.guarded(lambda: _status(arguments), "")


def _status(arguments: Sequence[str]) -> int:
    try:
        app(args=list(arguments), prog_name="hyperctl")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else exits.FAILED
    return exits.OK

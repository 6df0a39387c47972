"""hyperctl limit: how many jobs run at once, start in a time, and how fast they move data together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import DryRunOption, OutputOption, completer, full_name, mode_of
from hyperctl.commands.documents import FileOption, SetOption, document, done
from hyperctl.messages import enum_name
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session
from hyperctl.units import format_bytes, parse_size

if TYPE_CHECKING:
    from hypersdk.api.queue.v1.queue_pb2 import Limit

app = typer.Typer(help="How many jobs run at once, start in a time, and how fast they move data together.")
complete_limit = completer(lambda s: iter(s.client.queue.list_limits()), "limits")
LimitArgument = Annotated[
    str, typer.Argument(metavar="LIMIT", help="limits/x, or x.", autocompletion=complete_limit)
]


def _counts(limit: Limit) -> str:
    scope = enum_name(limit.DESCRIPTOR.fields_by_name["scope"], limit.scope).lower()
    return " ".join(filter(None, (scope, limit.label, limit.value)))


COLUMNS: list[Column[Limit]] = [
    Column("NAME", lambda r: r.name),
    Column("COUNTS BY", _counts),
    Column("RUNNING", lambda r: r.max_running or ""),
    Column("STARTS", lambda r: f"{r.max_starts} in {r.period.ToSeconds()}s" if r.max_starts else ""),
    Column("BANDWIDTH", lambda r: f"{format_bytes(r.bandwidth_limit_bytes)}/s" if r.bandwidth_limit_bytes else ""),
    Column("WHILE OPEN", lambda r: r.window),
]


@app.command("create")
def create_limit(
    context: typer.Context,
    limit_id: Annotated[str, typer.Argument(metavar="ID", help="Lower case letters, digits, dashes.")],
    file: FileOption = None,
    scope: Annotated[str | None, typer.Option(help="all, task, connection, repository, owner, label.")] = None,
    value: Annotated[str | None, typer.Option(help="Which one; '*': each has a count of its own.")] = None,
    label: Annotated[str | None, typer.Option(help="With --scope label: its key.")] = None,
    running: Annotated[int | None, typer.Option(min=1, help="At once.")] = None,
    starts: Annotated[int | None, typer.Option(min=1, help="In any --period.")] = None,
    period: Annotated[str | None, typer.Option(help="1m by default.")] = None,
    bandwidth: Annotated[str | None, typer.Option(help="Bytes a second, shared: 200MiB.")] = None,
    window: Annotated[str | None, typer.Option(help="Only while this window is open.")] = None,
    fields: SetOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Keep a limit, from a file, flags, or both."""
    from hypersdk.api.queue.v1.queue_pb2 import Limit

    session = Session.of(context)
    flags = {
        "scope": scope, "value": value, "label": label, "max_running": running, "max_starts": starts, "period": period,
        "bandwidth_limit_bytes": parse_size(bandwidth) if bandwidth else None,
        "window": full_name("windows", window) if window else None,
    }  # fmt: skip
    made = session.client.queue.create_limit(limit_id, document(Limit(), file, fields, flags), validate_only=dry_run)
    done(session, made, "would be created" if dry_run else "created", output)


@app.command("list")
def list_limits(context: typer.Context, output: OutputOption = None) -> None:
    """List limits."""
    session = Session.of(context)
    show_list(session.client.queue.list_limits(), COLUMNS, mode_of(session, output), empty="no limits")


@app.command("get")
def get_limit(context: typer.Context, name: LimitArgument, output: OutputOption = None) -> None:
    """Show one limit."""
    session = Session.of(context)
    show_one(session.client.queue.get_limit(full_name("limits", name)), mode_of(session, output))


@app.command("update")
def update_limit(
    context: typer.Context,
    name: LimitArgument,
    file: FileOption = None,
    fields: SetOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Change the fields that a file or --set names; the others stay."""
    from hypersdk.api.queue.v1.queue_pb2 import Limit

    session = Session.of(context)
    message = document(Limit(), file, fields)
    changed = [field.name for field, _ in message.ListFields()]
    message.name = full_name("limits", name)
    made = session.client.queue.update_limit(message, changed, validate_only=dry_run)
    done(session, made, "would be changed" if dry_run else "changed", output)


@app.command("delete")
def delete_limit(context: typer.Context, name: LimitArgument, dry_run: DryRunOption = False) -> None:
    """Lift a limit."""
    session = Session.of(context)
    session.client.queue.delete_limit(full_name("limits", name), validate_only=dry_run)
    session.say(f"{full_name('limits', name)}: {'would be deleted' if dry_run else 'deleted'}")

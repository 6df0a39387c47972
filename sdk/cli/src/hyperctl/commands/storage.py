"""hyperctl storage: objects in storage connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import InvalidArgument

from hyperctl.commands.common import DryRunOption, OutputOption, complete_connection, full_name, mode_of
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session
from hyperctl.units import format_bytes

if TYPE_CHECKING:
    from hypersdk.api.storage.v1.storage_pb2 import Object

app = typer.Typer(help="What lies in a storage.")
COLUMNS: list[Column[Object]] = [
    Column("KEY", lambda o: o.key),
    Column("SIZE", lambda o: format_bytes(o.size_bytes)),
    Column("UPDATED", lambda o: o.update_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")),
    Column("ETAG", lambda o: o.etag, wide=True),
    Column("NAME", lambda o: o.name, wide=True),
]


def split_target(text: str) -> tuple[str, str]:
    """`x`, `x/a/b`, `connections/x` and `connections/x/objects/a/b` as the connection's name and the key or
    prefix."""
    connection, _, rest = text.removeprefix("connections/").partition("/")
    return f"connections/{connection}", rest.removeprefix("objects/") if text.startswith("connections/") else rest


@app.command("ls")
def list_objects(
    context: typer.Context,
    where: Annotated[
        str, typer.Argument(metavar="CONNECTION[/PREFIX]", autocompletion=complete_connection)
    ],
    output: OutputOption = None,
) -> None:
    """List objects, by prefix."""
    session = Session.of(context)
    connection, prefix = split_target(where)
    found = session.client.storage.list_objects(connection, prefix=prefix)
    show_list(found, COLUMNS, mode_of(session, output), empty="no objects")


@app.command("rm")
def delete_object(
    context: typer.Context,
    where: Annotated[str, typer.Argument(metavar="CONNECTION/KEY")],
    dry_run: DryRunOption = False,
) -> None:
    """Delete one object; no error when it was not there."""
    session = Session.of(context)
    connection, key = split_target(where)
    if not key:
        raise InvalidArgument(f"{where!r} names no object; write CONNECTION/KEY", reason="OBJECT_KEY_MISSING")
    name = f"{connection}/objects/{key}"
    session.client.storage.delete_object(name, validate_only=dry_run)
    session.say(f"{name} {'would be deleted' if dry_run else 'deleted'}")


@app.command("usage")
def show_usage(
    context: typer.Context,
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", autocompletion=complete_connection)],
    output: OutputOption = None,
) -> None:
    """Show used and free space, in bytes; -1 where the storage cannot tell."""
    session = Session.of(context)
    show_one(session.client.storage.get_usage(full_name("connections", connection)), mode_of(session, output))

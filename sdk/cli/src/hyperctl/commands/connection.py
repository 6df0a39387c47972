"""hyperctl connection: configured providers and storages. Secrets are references (`env:NAME`, `file:/path`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from hypersdk.errors import Unavailable

from hyperctl.commands.common import (
    DryRunOption,
    FilterOption,
    OutputOption,
    complete_connection,
    full_name,
    mode_of,
)  # fmt: skip
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.pairs import parse_pairs, read_config_file, typed
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.connections.v1.connections_pb2 import Connection

app = typer.Typer(help="Configured platforms and storages.")
ConnectionArgument = Annotated[
    str, typer.Argument(metavar="CONNECTION", help="connections/x, or x.", autocompletion=complete_connection)
]
ConfigOption = Annotated[
    list[str] | None,
    typer.Option("--config", metavar="KEY=VALUE", help="Repeatable. A secret is env:NAME or file:/path, never itself."),
]
ConfigFileOption = Annotated[
    Path | None, typer.Option("--config-file", help="A .toml, .json or .yaml file; --config wins over it.")
]
LabelOption = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")]

COLUMNS: list[Column[Connection]] = [
    Column("NAME", lambda c: c.name),
    Column("COMPONENT", lambda c: c.component),
    Column("DISPLAY NAME", lambda c: c.display_name),
    Column("CREATED", lambda c: c.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")),
    Column("LABELS", lambda c: ",".join(f"{k}={v}" for k, v in sorted(c.labels.items())), wide=True),
    Column("UID", lambda c: c.uid, wide=True),
]


def _config(pairs: list[str] | None, file: Path | None) -> dict[str, Any]:
    return {**(read_config_file(file) if file else {}), **typed(parse_pairs(pairs or (), flag="--config"))}


def _labels(items: list[str] | None) -> dict[str, str] | None:
    return parse_pairs(items, flag="--label") if items else None


@app.command("list")
def list_connections(
    context: typer.Context, filter_text: FilterOption = "", output: OutputOption = None
) -> None:
    """List connections."""
    session = Session.of(context)
    found = session.client.connections.list(filter=filter_text)
    show_list(found, COLUMNS, mode_of(session, output), empty="no connections; hyperctl connection create --help")


@app.command("get")
def get_connection(context: typer.Context, name: ConnectionArgument, output: OutputOption = None) -> None:
    """Show one connection."""
    session = Session.of(context)
    show_one(session.client.connections.get(full_name("connections", name)), mode_of(session, output))


@app.command("create")
def create_connection(
    context: typer.Context,
    connection_id: Annotated[str, typer.Argument(metavar="ID", help="Lower case letters, digits, dashes.")],
    component: Annotated[str, typer.Option("--component", "-c", help="provider/directory, storage/local, …")],
    config: ConfigOption = None,
    config_file: ConfigFileOption = None,
    display_name: Annotated[str, typer.Option(help="For people.")] = "",
    label: LabelOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Configure a platform or a storage."""
    session = Session.of(context)
    connection = session.client.connections.create(
        connection_id.removeprefix("connections/"), component, _config(config, config_file),
        display_name=display_name, labels=_labels(label), validate_only=dry_run,
    )  # fmt: skip
    _done(session, connection, "would be created" if dry_run else "created", output)


@app.command("update")
def update_connection(
    context: typer.Context,
    name: ConnectionArgument,
    config: ConfigOption = None,
    config_file: ConfigFileOption = None,
    display_name: Annotated[str | None, typer.Option(help="For people.")] = None,
    label: LabelOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Change what is given: --config changes single keys, --config-file and --label replace all."""
    from hyperctl.messages import to_plain

    session = Session.of(context)
    full = full_name("connections", name)
    etag, new_config = "", None
    if config_file is not None:
        new_config = _config(config, config_file)
    elif config:
        present = session.client.connections.get(full)
        etag, new_config = present.etag, {**to_plain(present.config), **_config(config, None)}
    connection = session.client.connections.update(
        full, config=new_config, display_name=display_name, labels=_labels(label), etag=etag, validate_only=dry_run
    )
    _done(session, connection, "would be updated" if dry_run else "updated", output)


@app.command("delete")
def delete_connection(
    context: typer.Context, name: ConnectionArgument, dry_run: DryRunOption = False
) -> None:
    """Forget a connection. What it points to stays."""
    session = Session.of(context)
    full = full_name("connections", name)
    session.client.connections.delete(full, validate_only=dry_run)
    session.say(f"{full} {'would be deleted' if dry_run else 'deleted'}")


@app.command("test")
def check_connection(context: typer.Context, name: ConnectionArgument, output: OutputOption = None) -> None:
    """Ask whether it can be reached as configured; exit status 7 when not."""
    session = Session.of(context)
    full = full_name("connections", name)
    answer = session.client.connections.test(full)
    show_one(answer, mode_of(session, output))
    if not answer.ok:
        raise Unavailable(f"{full} does not work: {answer.message}", reason="CONNECTION_TEST_FAILED")


def _done(session: Session, connection: Connection, text: str, output: Mode | None) -> None:
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"{connection.name} {text}")
    else:
        show_one(connection, mode)

"""hyperctl plugin: what is installed, and how its hosts fare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import Unavailable

from hyperctl.commands.common import OutputOption, complete_plugin, full_name, mode_of
from hyperctl.messages import enum_name
from hyperctl.output import Column, show_list, show_one
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.plugins.v1.plugins_pb2 import Generation, Plugin

app = typer.Typer(help="Installed plugins.")
PluginArgument = Annotated[
    str, typer.Argument(metavar="PLUGIN", help="plugins/x, or x.", autocompletion=complete_plugin)
]


def _shown(plugin: Plugin) -> Generation | None:
    """The active generation, or the last one when none could be activated."""
    if plugin.HasField("active_generation"):
        return plugin.active_generation
    return plugin.generations[-1] if plugin.generations else None


def _state(plugin: Plugin) -> str:
    found = _shown(plugin)
    return enum_name(found.DESCRIPTOR.fields_by_name["state"], found.state) if found else ""


def _host(plugin: Plugin) -> str:
    found = _shown(plugin)
    return enum_name(found.host.DESCRIPTOR.fields_by_name["state"], found.host.state) if found else ""


def _components(plugin: Plugin) -> str:
    found = _shown(plugin)
    return ",".join(c.name for c in found.components) if found else ""


def _failure(plugin: Plugin) -> str:
    return next((g.failure_message for g in reversed(plugin.generations) if g.failure_message), "")


COLUMNS: list[Column[Plugin]] = [
    Column("NAME", lambda p: p.name),
    Column("VERSION", lambda p: found.version if (found := _shown(p)) else ""),
    Column("STATE", _state),
    Column("HOST", _host),
    Column("COMPONENTS", _components),
    Column("ORIGIN", lambda p: found.origin if (found := _shown(p)) else "", wide=True),
    Column("DIGEST", lambda p: found.digest[:12] if (found := _shown(p)) else "", wide=True),
    Column("FAILURE", _failure, wide=True),
]


@app.command("list")
def list_plugins(context: typer.Context, output: OutputOption = None) -> None:
    """List plugins."""
    session = Session.of(context)
    show_list(session.client.plugins.list(), COLUMNS, mode_of(session, output), empty="no plugins")


@app.command("get")
def get_plugin(context: typer.Context, name: PluginArgument, output: OutputOption = None) -> None:
    """Show one plugin with its generations and schemas."""
    session = Session.of(context)
    show_one(session.client.plugins.get(full_name("plugins", name)), mode_of(session, output))


@app.command("health")
def plugin_health(context: typer.Context, name: PluginArgument, output: OutputOption = None) -> None:
    """Start the plugin's host if need be and ask it; exit status 7 when it is not well."""
    session = Session.of(context)
    full = full_name("plugins", name)
    answer = session.client.plugins.check_health(full)
    show_one(answer, mode_of(session, output))
    if not answer.ok:
        raise Unavailable(f"{full} is not well: {answer.message}", reason="PLUGIN_UNHEALTHY")

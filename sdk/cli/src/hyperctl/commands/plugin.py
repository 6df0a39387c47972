"""hyperctl plugin: what is installed, how its hosts fare, and swapping it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import Unavailable

from hyperctl.commands import plugin_dev, plugin_judge, plugin_new, pluginsigning
from hyperctl.commands.common import DryRunOption, OutputOption, complete_plugin, full_name, mode_of
from hyperctl.messages import enum_name
from hyperctl.output import Column, Mode, show_list, show_one, show_streamed, show_value
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.plugins.v1.plugins_pb2 import Generation, Plugin, WatchPluginsResponse

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
    state = enum_name(found.DESCRIPTOR.fields_by_name["state"], found.state) if found else ""
    canaries = [f"CANARY {g.version} {g.canary_percent}%" for g in plugin.generations if g.canary_percent]
    return ", ".join([state, *canaries])


def _host(plugin: Plugin) -> str:
    found = _shown(plugin)
    return enum_name(found.host.DESCRIPTOR.fields_by_name["state"], found.host.state) if found else ""


def _components(plugin: Plugin) -> str:
    found = _shown(plugin)
    return ",".join(c.name for c in found.components) if found else ""


def _failure(plugin: Plugin) -> str:
    return next((g.failure_message for g in reversed(plugin.generations) if g.failure_message), "")


def _generation_state(generation: Generation) -> str:
    name = enum_name(generation.DESCRIPTOR.fields_by_name["state"], generation.state)
    return f"{name} {generation.canary_percent}%" if generation.canary_percent else name


def _since(generation: Generation) -> str:
    return f"{generation.state_time.ToDatetime():%Y-%m-%dT%H:%M:%SZ}" if generation.HasField("state_time") else ""


def _error_rate(generation: Generation) -> str:
    calls = generation.host.call_count
    return f"{100 * generation.host.error_count / calls:.1f}%" if calls else ""


def _of_shown(value: Callable[[Generation], object]) -> Callable[[Plugin], object]:
    return lambda plugin: value(found) if (found := _shown(plugin)) else ""


COLUMNS: list[Column[Plugin]] = [
    Column("NAME", lambda p: p.name),
    Column("VERSION", _of_shown(lambda g: g.version)),
    Column("STATE", _state),
    Column("HOST", _host),
    Column("COMPONENTS", _components),
    Column("ORIGIN", _of_shown(lambda g: g.origin), wide=True),
    Column("DIGEST", _of_shown(lambda g: g.digest[:12]), wide=True),
    Column("SINCE", _of_shown(_since), wide=True),
    Column("JOBS", _of_shown(lambda g: g.pinned_job_count), wide=True),
    Column("CALLS", _of_shown(lambda g: g.host.call_count), wide=True),
    Column("ERRORS", _of_shown(_error_rate), wide=True),
    Column("RESTARTS", _of_shown(lambda g: g.host.restart_count), wide=True),
    Column("FAILURE", _failure, wide=True),
]

GENERATION_COLUMNS: list[Column[Generation]] = [
    Column("GENERATION", lambda g: g.name.removeprefix("plugins/")),
    Column("VERSION", lambda g: g.version),
    Column("DIGEST", lambda g: g.digest[:12]),
    Column("STATE", _generation_state),
    Column("SINCE", _since),
    Column("HOST", lambda g: enum_name(g.host.DESCRIPTOR.fields_by_name["state"], g.host.state)),
    Column("JOBS", lambda g: g.pinned_job_count),
    Column("CALLS", lambda g: g.host.call_count),
    Column("ERRORS", _error_rate),
    Column("RESTARTS", lambda g: g.host.restart_count),
    Column("REASON", lambda g: g.failure_reason),
    Column("ORIGIN", lambda g: g.origin, wide=True),
    Column("VIA", lambda g: g.provenance.via, wide=True),
    Column("SOURCE", lambda g: g.provenance.source, wide=True),
    Column("SHA256", lambda g: g.provenance.sha256[:12], wide=True),
    Column("SIGNER", lambda g: g.provenance.signer, wide=True),
    Column("BY", lambda g: g.provenance.actor, wide=True),
    Column("MESSAGE", lambda g: g.failure_message, wide=True),
]

CHANGE_COLUMNS: list[Column[WatchPluginsResponse]] = [
    Column("TIME", lambda c: c.time.ToJsonString() if c.HasField("time") else ""),
    Column("EVENT", lambda c: c.type or "present"),
    Column("GENERATION", lambda c: c.generation or c.plugin.active_generation.name or c.plugin.name),
    Column("ACTIVE", lambda c: c.plugin.active_generation.version),
    Column("MESSAGE", lambda c: c.message),
]


def _show(context: typer.Context, plugin: Plugin, output: Mode | None) -> None:
    """The generations of a plugin as a table, or the plugin itself in the other modes."""
    session = Session.of(context)
    mode = mode_of(session, output)
    if mode in {Mode.TABLE, Mode.WIDE}:
        show_list(plugin.generations, GENERATION_COLUMNS, mode)
    else:
        show_one(plugin, mode)


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


@app.command("generations")
def list_generations(context: typer.Context, name: PluginArgument, output: OutputOption = None) -> None:
    """List a plugin's generations: version, digest, state, since when, its host, jobs pinned to it, calls, error rate,
    restarts, why it failed."""
    _show(context, Session.of(context).client.plugins.get(full_name("plugins", name)), output)


@app.command("install")
def install_plugin(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="WHEEL|NAME", help="A .whl file, or a name such as x or x==1.2.")],
    no_activate: Annotated[bool, typer.Option("--no-activate", help="Into the store only.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Install a wheel of this machine, or a plugin that the daemon's configured sources have, and swap to it."""
    plugins = Session.of(context).client.plugins
    if source.endswith(".whl"):
        plugin = plugins.upload(Path(source), install_only=no_activate, validate_only=dry_run)
    else:
        plugin = plugins.install(requirement=source, install_only=no_activate, validate_only=dry_run)
    _show(context, plugin, output)


@app.command("uninstall")
def uninstall_plugin(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="PLUGIN", help="x, or one generation: plugins/x/generations/2.")],
    dry_run: DryRunOption = False,
) -> None:
    """Remove an installed plugin, or one generation of it."""
    Session.of(context).client.plugins.uninstall(full_name("plugins", name), validate_only=dry_run)


@app.command("activate")
def activate_plugin(
    context: typer.Context,
    name: PluginArgument,
    target: Annotated[str, typer.Argument(metavar="VERSION|#NUMBER", help="1.2, or #3 for generation 3.")],
    canary: Annotated[
        int, typer.Option("--canary", metavar="PERCENT", help="Give it this share of new calls and jobs; 0: all.",
                          min=0, max=99),
    ] = 0,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Swap to a version or a generation; the old one stands by for its probation. With --canary give it a share, until
    it is activated without, withdrawn by `rollback`, or found bad."""
    plugins = Session.of(context).client.plugins
    full = full_name("plugins", name)
    number = target.removeprefix("#")
    if target.startswith("#") and number.isdecimal():
        plugin = plugins.activate(full, generation=int(number), canary_percent=canary, validate_only=dry_run)
    else:
        plugin = plugins.activate(full, version=target, canary_percent=canary, validate_only=dry_run)
    _show(context, plugin, output)


@app.command("rollback")
def rollback_plugin(
    context: typer.Context, name: PluginArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Withdraw the canary; without one, swap to the generation that was active before."""
    client = Session.of(context).client
    _show(context, client.plugins.rollback(full_name("plugins", name), validate_only=dry_run), output)


@app.command("reset")
def reset_plugin(
    context: typer.Context, name: PluginArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Forget the crashes of a plugin's hosts: one that is quarantined is started by the next call."""
    client = Session.of(context).client
    _show(context, client.plugins.reset(full_name("plugins", name), validate_only=dry_run), output)


@app.command("reload")
def reload_plugin(
    context: typer.Context, name: PluginArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Read an editable or bundled plugin again, and swap to what its files say now."""
    client = Session.of(context).client
    _show(context, client.plugins.reload(full_name("plugins", name), validate_only=dry_run), output)


@app.command("watch")
def watch_plugins(context: typer.Context, output: OutputOption = None) -> None:
    """Print plugins as they are, then changes as they happen, until interrupted."""
    session = Session.of(context)
    mode = mode_of(session, output)
    for change in session.client.plugins.watch():
        show_streamed(change, CHANGE_COLUMNS, mode)


@app.command("gc")
def collect_garbage(context: typer.Context, dry_run: DryRunOption = False, output: OutputOption = None) -> None:
    """Remove generations that are neither active nor previous, nor pinned by a job, nor still untried."""
    session = Session.of(context)
    show_value({"removed": [*session.client.plugins.collect_garbage(validate_only=dry_run)]}, mode_of(session, output))


plugin_new.register(app)
pluginsigning.register(app)
plugin_judge.register(app)
plugin_dev.register(app)

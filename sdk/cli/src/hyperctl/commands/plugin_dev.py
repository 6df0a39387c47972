"""hyperctl plugin dev: a plugin's source folder in a live throw-away daemon, reloaded on save."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from hypersdk.errors import HyperError, InvalidArgument

from hyperctl.devdaemon import DevDaemon
from hyperctl.session import Session

_QUIET = frozenset({"call_answered", "host_started", "upload_answered"})
_SHOWN = ("reason", "error", "message", "cause", "line", "host_event", "fields", "version", "failure")


def register(app: typer.Typer) -> None:
    app.command("dev")(dev_plugin)


def dev_plugin(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A plugin's source folder.")],
    state_dir: Annotated[
        Path | None, typer.Option("--state-dir", help="Kept afterwards; a temporary one if left out.")
    ] = None,
    trace_frames: Annotated[
        bool, typer.Option("--trace-frames", help="Show every message between the daemon and the plugin's host.")
    ] = False,
) -> None:
    """Run a plugin from its source folder, reload it on save, show its logs and errors; until Ctrl-C."""
    from hypersdk.testing.conformance import open_project

    session = Session.of(context)
    with open_project(path) as project:
        if project.is_wheel:
            raise InvalidArgument("a wheel does not change; install it with `hyperctl plugin install`")
        name, components = _plugin_id(project.distribution), sorted(project.entries)
    flags = ["--trace-frames"] if trace_frames else []
    with _state(state_dir) as state:
        daemon = DevDaemon(state, path.absolute(), flags)
        try:
            _end_on_signals(daemon)
            daemon.start()
            _introduce(session, daemon, name, components)
            _say_health(session, daemon, name)
            for line in daemon.lines():
                if (text := told(line, name)) is not None:
                    sys.stdout.write(text + "\n")
                    sys.stdout.flush()
        finally:
            daemon.stop()


def _end_on_signals(daemon: DevDaemon) -> None:
    """By a handler, not by KeyboardInterrupt: that one is lost when it is raised inside a destructor."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: daemon.terminate())


@contextlib.contextmanager
def _state(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="hypersdk-dev-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _plugin_id(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-").removeprefix("hypersdk-")


def _introduce(session: Session, daemon: DevDaemon, name: str, components: list[str]) -> None:
    session.say(f"serving plugins/{name} ({', '.join(components)}); save a file to reload it, Ctrl-C to stop")
    session.say(f"  export HYPERSDK_STATE_DIR={daemon.state}   # then, in another terminal:")
    session.say(f"  hyperctl plugin health {name}")
    for component in components:
        kind = component.partition("/")[0]
        if kind in {"provider", "storage", "notifier", "secrets", "executor"}:
            session.say(f"  hyperctl connection create try -c {component} --config KEY=VALUE")


def _say_health(session: Session, daemon: DevDaemon, name: str) -> None:
    """Asked beside the log, so that what the host prints while it starts is shown meanwhile."""

    def ask() -> None:
        from hypersdk.client import Client

        try:
            with Client(daemon.address) as client:
                found = client.plugins.check_health(f"plugins/{name}")
        except HyperError as exc:
            session.say(f"plugins/{name}: {exc.message} ({exc.reason})")
        else:
            session.say(f"plugins/{name} is {'well' if found.ok else 'not well: ' + found.message}")

    threading.Thread(target=ask, daemon=True).start()


def told(line: Mapping[str, Any], name: str) -> str | None:
    """A line of the daemon's log, for the plugin's author; None for one that does not concern the plugin."""
    about = f"{line.get('generation') or line.get('plugin') or ''}"
    mine = about == name or about == f"plugins/{name}" or about.startswith(f"plugins/{name}/")
    if "direction" in line and "peer" in line:
        return _frame(line) if mine else None
    event, level = str(line.get("event", "")), str(line.get("level", "info"))
    if event in _QUIET or not (mine or level in {"warning", "error", "critical"}):
        return None
    told_fields = [f"{key}={line[key]}" for key in _SHOWN if line.get(key) not in (None, "", {})]
    clock = str(line.get("timestamp", ""))[11:19]
    number = about.rpartition("/")[2] if "/generations/" in about else ""
    head = f"{clock} {level:7} {event}" + (f" #{number}" if number else "")
    return _printable(" ".join([head, *told_fields]))


def _frame(line: Mapping[str, Any]) -> str:
    """A message between the daemon and the host, as `--trace-frames` has it."""
    arrow = "->" if line.get("direction") == "sent" else "<-"
    payload = line.get("payload", line.get("payload_start", ""))
    what = line.get("called") or line.get("method", "")
    return _printable(f"{arrow} {line.get('id') or ''} {what} {json.dumps(payload, ensure_ascii=False)}")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)

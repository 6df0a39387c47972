"""What several commands share: the -o option, resource names written short, completion of live names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

import typer
from hypersdk.errors import HyperError, InvalidArgument

from hyperctl import settings
from hyperctl.output import Mode
from hyperctl.session import Session

OutputOption = Annotated[
    Mode | None, typer.Option("-o", "--output", help="How to print.", show_default=False)
]
LongOutputOption = Annotated[
    Mode | None, typer.Option("--output", help="How to print the job; -o is for the format.", show_default=False)
]
FilterOption = Annotated[str, typer.Option("--filter", help="AIP-160, such as: state = FAILED AND task = export")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")]
LimitOption = Annotated[int, typer.Option("--limit", min=0, help="At most so many; 0: all.")]
_MOST_COMPLETIONS = 200


def mode_of(session: Session, given: Mode | None) -> Mode:
    """The output mode: the command's own -o, or the settings'."""
    if given is not None:
        return given
    try:
        return Mode(session.output)
    except ValueError as exc:
        raise InvalidArgument(
            f"output must be one of {', '.join(Mode)}, not {session.output[:40]!r} "
            f"({session.settings['output'].origin})",
            reason="OUTPUT_UNKNOWN",
        ) from exc


def full_name(collection: str, name: str) -> str:
    """`x` and `jobs/x` both name `jobs/x`."""
    return name if name.startswith(f"{collection}/") else f"{collection}/{name}"


def machine_name(name: str) -> str:
    """`x/y` and `connections/x/machines/y` both name the latter."""
    parts = name.split("/")
    if len(parts) == 2 and all(parts):
        return f"connections/{parts[0]}/machines/{parts[1]}"
    return name


def completer(names: Callable[[Session], Iterator[Any]], collection: str) -> Callable[[str], list[str]]:
    """Completion of a live collection's names: short ones, or full ones once the user typed the collection. A daemon
    that does not answer completes nothing, because an error in the middle of a command line helps nobody."""

    def complete(incomplete: str) -> list[str]:
        try:
            session = Session(settings.resolve({"timeout": "2s"}), quiet=True)
            found = [item.name for item in islice(names(session), _MOST_COMPLETIONS)]
            session.close()
        except HyperError:
            return []
        short = [name.removeprefix(f"{collection}/") for name in found]
        return [name for name in (*short, *found) if name.startswith(incomplete)] if incomplete else short

    return complete


complete_job = completer(lambda s: iter(s.client.jobs.list(page_size=100)), "jobs")
complete_schedule = completer(lambda s: iter(s.client.schedules.list()), "schedules")
complete_connection = completer(lambda s: iter(s.client.connections.list()), "connections")
complete_plugin = completer(lambda s: iter(s.client.plugins.list()), "plugins")
complete_machine = completer(lambda s: iter(s.client.inventory.list_machines()), "machines")
complete_format = completer(lambda s: iter(s.client.formats.list()), "formats")

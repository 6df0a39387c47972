"""hyperctl group: jobs that are submitted together and wait for each other."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import DryRunOption, LimitOption, OutputOption, completer, full_name, mode_of
from hyperctl.commands.documents import done
from hyperctl.fromplain import from_plain
from hyperctl.jobgraph import dot_graph, text_graph
from hyperctl.messages import enum_name
from hyperctl.output import Column, show_list, show_one
from hyperctl.pairs import read_config_file
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.job_groups_pb2 import JobGroup

app = typer.Typer(help="Jobs that are submitted together and wait for each other.")
complete_group = completer(lambda s: iter(s.client.job_groups.list()), "jobGroups")
GroupArgument = Annotated[
    str, typer.Argument(metavar="GROUP", help="jobGroups/x, or x.", autocompletion=complete_group)
]


def _counts(group: JobGroup) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(group.job_counts.items()))


COLUMNS: list[Column[JobGroup]] = [
    Column("NAME", lambda g: g.name),
    Column("STATE", lambda g: enum_name(g.DESCRIPTOR.fields_by_name["state"], g.state)),
    Column("CREATED", lambda g: g.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")),
    Column("JOBS", _counts),
    Column("DISPLAY NAME", lambda g: g.display_name, wide=True),
]


@app.command("submit")
def submit_group(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, JSON or TOML: a JobGroup with its members.")],
    group_id: Annotated[str, typer.Option("--id", help="Chosen by the daemon if absent.")] = "",
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Queue all jobs of a group, or none."""
    from hypersdk.api.jobs.v1.job_groups_pb2 import JobGroup

    session = Session.of(context)
    message = from_plain(read_config_file(file, doing=f"reading {file}"), JobGroup())
    made = session.client.job_groups.create(message, group_id=group_id, validate_only=dry_run)
    done(session, made, f"{len(made.members)} jobs {'would be queued' if dry_run else 'queued'}", output)


@app.command("list")
def list_groups(context: typer.Context, limit: LimitOption = 100, output: OutputOption = None) -> None:
    """List groups, newest first."""
    session = Session.of(context)
    show_list(
        islice(session.client.job_groups.list(), limit or None), COLUMNS, mode_of(session, output), empty="no groups"
    )


@app.command("get")
def get_group(context: typer.Context, name: GroupArgument, output: OutputOption = None) -> None:
    """Show a group and its jobs."""
    session = Session.of(context)
    show_one(session.client.job_groups.get(full_name("jobGroups", name)), mode_of(session, output))


@app.command("cancel")
def cancel_group(
    context: typer.Context, name: GroupArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Ask every job of a group that has not ended to stop."""
    session = Session.of(context)
    group = session.client.job_groups.cancel(full_name("jobGroups", name), validate_only=dry_run)
    done(session, group, "would be cancelled" if dry_run else "cancel requested", output)


@app.command("graph")
def graph(
    context: typer.Context,
    name: GroupArgument,
    dot: Annotated[bool, typer.Option("--dot", help="For Graphviz.")] = False,
) -> None:
    """Draw what waits for what, with the state of each job."""
    draw(Session.of(context), full_name("jobGroups", name), dot=dot)


def draw(session: Session, name: str, *, dot: bool) -> None:
    """The graph on stdout."""
    group = session.client.job_groups.get(name)
    sys.stdout.write("".join(f"{line}\n" for line in (dot_graph if dot else text_graph)(group)))

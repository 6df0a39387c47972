"""hyperctl queue: in which order jobs start, and whether any does."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import DryRunOption, LimitOption, OutputOption, complete_job, full_name, mode_of
from hyperctl.messages import enum_name
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.session import Session

if TYPE_CHECKING:
    from hypersdk.api.queue.v1.queue_pb2 import Queue, QueueEntry

app = typer.Typer(help="In which order jobs start, and whether any does.")
ReasonOption = Annotated[str, typer.Option("--reason", help="Shown to whoever asks why nothing starts.")]

COLUMNS: list[Column[QueueEntry]] = [
    Column("POSITION", lambda e: e.position),
    Column("JOB", lambda e: e.job.name),
    Column("TASK", lambda e: e.job.task),
    Column("PRIORITY", lambda e: e.job.priority),
    Column("MOVED", lambda e: "yes" if e.job.rank else ""),
    Column("SINCE", lambda e: e.job.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")),
    Column("BLOCKED BY", lambda e: e.blocked_by),
]


@app.command("show")
def show_queue(context: typer.Context, output: OutputOption = None) -> None:
    """Show how the queue stands."""
    session = Session.of(context)
    show_one(session.client.queue.get(), mode_of(session, output))


@app.command("list")
def list_queue(context: typer.Context, limit: LimitOption = 100, output: OutputOption = None) -> None:
    """List queued jobs in the order in which they would start."""
    session = Session.of(context)
    entries = islice(session.client.queue.list(), limit or None)
    show_list(entries, COLUMNS, mode_of(session, output), empty="nothing is queued")


@app.command("open")
def open_queue(context: typer.Context, dry_run: DryRunOption = False, output: OutputOption = None) -> None:
    """Start jobs and take new ones, as ever."""
    _set(context, "OPEN", "", dry_run, output)


@app.command("drain")
def drain_queue(
    context: typer.Context, reason: ReasonOption = "", dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Start nothing more; what runs goes on, and new jobs are taken in."""
    _set(context, "DRAINING", reason, dry_run, output)


@app.command("close")
def close_queue(
    context: typer.Context, reason: ReasonOption = "", dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Start nothing more, and refuse new jobs."""
    _set(context, "CLOSED", reason, dry_run, output)


@app.command("move")
def move_job(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="JOB", help="jobs/x, or x.", autocompletion=complete_job)],
    natural: Annotated[bool, typer.Option("--natural", help="Back to where its priority and age put it.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Put a job that waits before all others."""
    session = Session.of(context)
    job = session.client.queue.move(full_name("jobs", name), natural=natural, validate_only=dry_run)
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"{job.name}: {'would be moved' if dry_run else 'moved'}")
    else:
        show_one(job, mode)


def _set(context: typer.Context, mode_name: str, reason: str, dry_run: bool, output: Mode | None) -> None:
    from hypersdk.api.queue.v1 import queue_pb2

    session = Session.of(context)
    mode = queue_pb2.QueueMode.Value(f"QUEUE_MODE_{mode_name}")
    _done(session, session.client.queue.set_mode(mode, reason, validate_only=dry_run), output)


def _done(session: Session, queue: Queue, output: Mode | None) -> None:
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"queue: {enum_name(queue.DESCRIPTOR.fields_by_name['mode'], queue.mode)}")
    else:
        show_one(queue, mode)

"""hyperctl job: list, get, watch and steer jobs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from hyperctl.commands.common import (
    DryRunOption,
    FilterOption,
    LimitOption,
    OutputOption,
    complete_job,
    full_name,
    mode_of,
)  # fmt: skip
from hyperctl.commands.jobplan import explain_job, graph_job, submit_job
from hyperctl.commands.report import report_jobs
from hyperctl.output import Column, Mode, show_list, show_one, show_streamed
from hyperctl.session import Session
from hyperctl.units import format_bytes, format_duration
from hyperctl.waiting import follow, seconds_of, state_of

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.jobs_pb2 import Job, StreamLogsResponse

app = typer.Typer(help="Everything that takes longer than a call.")
app.command("report")(report_jobs)
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="jobs/x, or x.", autocompletion=complete_job)]


def _percent(job: Job) -> str:
    total = job.progress.bytes_total
    return f"{100 * job.progress.bytes_done / total:.0f}%" if job.HasField("progress") and total > 0 else ""


def _took(job: Job) -> str:
    return format_duration(seconds_of(job))


COLUMNS: list[Column[Job]] = [
    Column("NAME", lambda j: j.name),
    Column("TASK", lambda j: j.task),
    Column("STATE", state_of),
    Column("DONE", _percent),
    Column("CREATED", lambda j: j.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")),
    Column("TOOK", _took),
    Column("ATTEMPTS", lambda j: j.attempt_count, wide=True),
    Column("MOVED", lambda j: format_bytes(j.progress.bytes_written) if j.HasField("progress") else "", wide=True),
    Column("MESSAGE", lambda j: j.error.message or j.state_message, wide=True),
]


app.command("submit")(submit_job)
app.command("explain")(explain_job)
app.command("graph")(graph_job)


@app.command("list")
def list_jobs(
    context: typer.Context,
    filter_text: FilterOption = "",
    order_by: Annotated[str, typer.Option(help="create_time desc, update_time, …")] = "",
    limit: LimitOption = 100,
    watch: Annotated[bool, typer.Option("--watch", help="Then print changes as they come.")] = False,
    output: OutputOption = None,
) -> None:
    """List jobs, newest first."""
    session = Session.of(context)
    jobs = session.client.jobs.list(filter=filter_text, order_by=order_by, page_size=min(limit or 1000, 1000))
    mode = mode_of(session, output)
    revision = session.client.system.info().last_revision if watch else 0
    show_list(islice(jobs, limit or None), COLUMNS, mode, empty="no jobs")
    if watch:
        for change in session.client.jobs.watch(since_revision=revision, states_only=True):
            show_streamed(change.job, COLUMNS, mode)


@app.command("get")
def get_job(context: typer.Context, name: JobArgument, output: OutputOption = None) -> None:
    """Show one job: spec, state, progress, result, error, plugin generations."""
    session = Session.of(context)
    show_one(session.client.jobs.get(full_name("jobs", name)), mode_of(session, output))


@app.command("watch")
def watch_job(context: typer.Context, name: JobArgument, output: OutputOption = None) -> None:
    """Follow a job until it ends; the exit status is the job's."""
    session = Session.of(context)
    raise typer.Exit(follow(session, full_name("jobs", name), mode_of(session, output)))


@app.command("cancel")
def cancel_job(
    context: typer.Context, name: JobArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Ask a job to stop and clean up."""
    session = Session.of(context)
    job = session.client.jobs.cancel(full_name("jobs", name), validate_only=dry_run)
    _done(session, job, "would be cancelled" if dry_run else "cancel requested", output)


@app.command("pause")
def pause_job(
    context: typer.Context, name: JobArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Hold a job between two pieces of work."""
    session = Session.of(context)
    job = session.client.jobs.pause(full_name("jobs", name), validate_only=dry_run)
    _done(session, job, "would be paused" if dry_run else "pause requested", output)


@app.command("resume")
def resume_job(
    context: typer.Context, name: JobArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Let a paused job go on."""
    session = Session.of(context)
    job = session.client.jobs.resume(full_name("jobs", name), validate_only=dry_run)
    _done(session, job, "would be resumed" if dry_run else "resumed", output)


@app.command("retry")
def retry_job(
    context: typer.Context,
    name: JobArgument,
    repin: Annotated[bool, typer.Option("--repin", help="With the plugin generations active now.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until it ends.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Queue a failed or cancelled job again, from its checkpoint."""
    session = Session.of(context)
    job = session.client.jobs.retry(full_name("jobs", name), repin=repin, validate_only=dry_run)
    _done(session, job, "would be queued again" if dry_run else "queued again", output)
    if wait and not dry_run:
        raise typer.Exit(follow(session, job.name, Mode.TABLE))


@app.command("logs")
def job_logs(
    context: typer.Context,
    name: JobArgument,
    attempt: Annotated[int, typer.Option(min=0, help="0: the last.")] = 0,
    follow_log: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
    output: OutputOption = None,
) -> None:
    """Print the log of an attempt."""
    session = Session.of(context)
    lines = session.client.jobs.logs(full_name("jobs", name), attempt=attempt, follow=follow_log)
    mode = mode_of(session, output)
    for line in lines:
        show_streamed(line, _LOG_COLUMNS, mode)


def _fields(line: StreamLogsResponse) -> str:
    from hyperctl.messages import to_plain

    return " ".join(f"{key}={value}" for key, value in to_plain(line.fields).items())


_LOG_COLUMNS: list[Column[StreamLogsResponse]] = [
    Column("TIME", lambda r: r.time.ToDatetime().isoformat(timespec="milliseconds")),
    Column("LEVEL", lambda r: f"{r.level:<7}"),
    Column("EVENT", lambda r: r.event),
    Column("FIELDS", _fields),
]


def _done(session: Session, job: Job, text: str, output: Mode | None) -> None:
    mode = mode_of(session, output)
    if mode is Mode.TABLE:
        session.say(f"{job.name}  {state_of(job)}: {text}")
    else:
        show_one(job, mode)

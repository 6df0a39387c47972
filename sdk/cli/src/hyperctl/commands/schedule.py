"""hyperctl schedule: jobs that are created at their times, from a template."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import InvalidArgument

from hyperctl.commands.common import (
    DryRunOption,
    FilterOption,
    OutputOption,
    complete_schedule,
    full_name,
    mode_of,
)  # fmt: skip
from hyperctl.commands.scheduletemplate import Given, schedule_of
from hyperctl.messages import enum_name
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.session import Session
from hyperctl.waiting import follow

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp
    from hypersdk.api.schedules.v1.schedules_pb2 import PreviewedTime, Schedule

app = typer.Typer(help="Jobs that are created at their times, from a template.")
ScheduleArgument = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="schedules/x, or x.", autocompletion=complete_schedule)
]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="A template: .yaml, .json or .toml. Flags win over it.")
]
CronOption = Annotated[
    str | None, typer.Option(help="'30 2 * * *', six fields with seconds first, @daily, '@every 1h30m'.")
]
AtOption = Annotated[str | None, typer.Option("--at", help="Once: 2026-11-25T02:00:00Z.")]
ZoneOption = Annotated[str | None, typer.Option("--time-zone", "--tz", help="IANA zone of --cron; UTC by default.")]
StartOption = Annotated[str | None, typer.Option(help="No occurrence before it.")]
EndOption = Annotated[str | None, typer.Option(help="No occurrence from it on.")]
JitterOption = Annotated[str | None, typer.Option(help="Start up to so much later: 10m.")]
OverlapOption = Annotated[str | None, typer.Option(help="While an earlier run goes on: forbid, queue, replace.")]
MissedOption = Annotated[str | None, typer.Option(help="Of missed times: skip, run_once, catch_up.")]
CatchUpOption = Annotated[int | None, typer.Option(min=1, max=100, help="The newest so many of the missed ones.")]
DeadlineOption = Annotated[str | None, typer.Option(help="Each job ends so long after its time, or fails: 6h.")]
DisplayOption = Annotated[str | None, typer.Option(help="For people.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")]
VariableOption = Annotated[
    list[str] | None, typer.Option("--variable", metavar="NAME=TEXT", help="For ${NAME} in the template; repeatable.")
]
TaskOption = Annotated[str | None, typer.Option(help="The job's task: export, convert, …")]
SpecOption = Annotated[
    list[str] | None, typer.Option("--spec", metavar="KEY=VALUE", help="Of the job's spec; repeatable.")
]
PriorityOption = Annotated[int | None, typer.Option(min=0, max=100, help="Of the jobs; 50 by default.")]


def _when(moment: Timestamp) -> str:
    return moment.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")


def _enum(schedule: Schedule, field: str) -> str:
    return enum_name(schedule.DESCRIPTOR.fields_by_name[field], getattr(schedule, field))


COLUMNS: list[Column[Schedule]] = [
    Column("NAME", lambda s: s.name),
    Column("STATE", lambda s: _enum(s, "state")),
    Column("WHEN", lambda s: s.cron or _when(s.run_at)),
    Column("ZONE", lambda s: s.time_zone),
    Column("NEXT (UTC)", lambda s: _when(s.next_time) if s.HasField("next_time") else ""),
    Column("LAST JOB", lambda s: s.last_job),
    Column("OUTCOME", lambda s: _enum(s, "last_outcome")),
    Column("RUNS", lambda s: s.counts.runs),
    Column("FAILED", lambda s: s.counts.failed),
    Column("TASK", lambda s: s.job_template.task, wide=True),
    Column("SKIPPED", lambda s: s.counts.skipped, wide=True),
    Column("MISSED", lambda s: s.counts.missed, wide=True),
    Column("REFUSED", lambda s: s.counts.refused, wide=True),
    Column("OVERLAP", lambda s: _enum(s, "overlap_policy"), wide=True),
    Column("MESSAGE", lambda s: s.pause_reason or s.last_error.message, wide=True),
]
TIMES: list[Column[PreviewedTime]] = [
    Column("LOCAL", lambda t: t.local_time),
    Column("UTC", lambda t: _when(t.scheduled_time)),
    Column("STARTS (UTC)", lambda t: _when(t.start_time)),
]


@app.command("create")
def create_schedule(
    context: typer.Context,
    schedule_id: Annotated[str, typer.Argument(metavar="ID", help="Lower case letters, digits, dashes.")],
    file: FileOption = None,
    cron: CronOption = None,
    at: AtOption = None,
    time_zone: ZoneOption = None,
    task: TaskOption = None,
    spec: SpecOption = None,
    priority: PriorityOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    overlap: OverlapOption = None,
    missed: MissedOption = None,
    catch_up: CatchUpOption = None,
    job_deadline: DeadlineOption = None,
    display_name: DisplayOption = None,
    label: LabelOption = None,
    variable: VariableOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Keep a schedule, from a template file, flags, or both."""
    session = Session.of(context)
    given = Given(
        file, cron, at, time_zone, start, end, jitter, overlap, missed, catch_up, job_deadline, display_name,
        label or [], variable or [], task, spec or [], priority,
    )  # fmt: skip
    message, _ = schedule_of(given)
    made = session.client.schedules.create(
        schedule_id.removeprefix("schedules/"), message, validate_only=dry_run
    )
    _done(session, made, "would be created" if dry_run else "created", output)


@app.command("update")
def update_schedule(
    context: typer.Context,
    name: ScheduleArgument,
    file: FileOption = None,
    cron: CronOption = None,
    at: AtOption = None,
    time_zone: ZoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    overlap: OverlapOption = None,
    missed: MissedOption = None,
    catch_up: CatchUpOption = None,
    job_deadline: DeadlineOption = None,
    display_name: DisplayOption = None,
    label: LabelOption = None,
    variable: VariableOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Change what is given; with -f everything becomes as the file says. A new timing counts from now on."""
    session = Session.of(context)
    given = Given(
        file, cron, at, time_zone, start, end, jitter, overlap, missed, catch_up, job_deadline, display_name,
        label or [], variable or [],
    )  # fmt: skip
    message, fields = schedule_of(given, full_name("schedules", name))
    if not fields:
        raise InvalidArgument("nothing to change: give -f or a flag", reason="NOTHING_TO_CHANGE")
    made = session.client.schedules.update(message, ["*"] if file else fields, validate_only=dry_run)
    _done(session, made, "would be updated" if dry_run else "updated", output)


@app.command("list")
def list_schedules(context: typer.Context, filter_text: FilterOption = "", output: OutputOption = None) -> None:
    """List schedules."""
    session = Session.of(context)
    found = session.client.schedules.list(filter=filter_text)
    show_list(found, COLUMNS, mode_of(session, output), empty="no schedules; hyperctl schedule create --help")


@app.command("get")
def get_schedule(context: typer.Context, name: ScheduleArgument, output: OutputOption = None) -> None:
    """Show one schedule; with -o yaml it is a template that create and update take."""
    session = Session.of(context)
    show_one(session.client.schedules.get(full_name("schedules", name)), mode_of(session, output))


@app.command("delete")
def delete_schedule(context: typer.Context, name: ScheduleArgument, dry_run: DryRunOption = False) -> None:
    """Forget a schedule. Its jobs stay, and go on."""
    session = Session.of(context)
    full = full_name("schedules", name)
    session.client.schedules.delete(full, validate_only=dry_run)
    session.say(f"{full} {'would be deleted' if dry_run else 'deleted'}")


@app.command("pause")
def pause_schedule(
    context: typer.Context,
    name: ScheduleArgument,
    reason: Annotated[str, typer.Option(help="Why, for those who look at it.")] = "",
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """No occurrence counts until it is resumed."""
    session = Session.of(context)
    made = session.client.schedules.pause(full_name("schedules", name), reason, validate_only=dry_run)
    _done(session, made, "would be paused" if dry_run else "paused", output)


@app.command("resume")
def resume_schedule(
    context: typer.Context, name: ScheduleArgument, dry_run: DryRunOption = False, output: OutputOption = None
) -> None:
    """Occurrences count again, from now on; those during the pause are not made up for."""
    session = Session.of(context)
    made = session.client.schedules.resume(full_name("schedules", name), validate_only=dry_run)
    _done(session, made, "would be resumed" if dry_run else "resumed", output)


@app.command("run")
def run_schedule(
    context: typer.Context,
    name: ScheduleArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job; the exit status is the job's.")] = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Create a job now, beside the timetable, paused or not."""
    session = Session.of(context)
    mode = mode_of(session, output)
    job = session.client.schedules.run(full_name("schedules", name), validate_only=dry_run)
    if dry_run:
        session.say("checked; nothing was started. The job would be:")
        show_one(job, mode)
    elif wait:
        raise typer.Exit(follow(session, job.name, mode))
    elif mode is Mode.TABLE:
        sys.stdout.write(job.name + "\n")
    else:
        show_one(job, mode)


@app.command("preview")
def preview_times(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[SCHEDULE]", help="One that is kept.", autocompletion=complete_schedule)
    ] = "",
    file: FileOption = None,
    cron: CronOption = None,
    time_zone: ZoneOption = None,
    start: StartOption = None,
    end: EndOption = None,
    jitter: JitterOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 10,
    show_zone: Annotated[str, typer.Option("--in", help="Zone to show times in; the schedule's by default.")] = "",
    output: OutputOption = None,
) -> None:
    """The next times of a schedule, of a template, or of --cron."""
    session = Session.of(context)
    if file is None and cron is None:
        if not name:
            raise InvalidArgument("give a schedule, -f or --cron", reason="NOTHING_TO_PREVIEW")
        times = session.client.schedules.preview(full_name("schedules", name), count=count, time_zone=show_zone)
    else:
        given = Given(file=file, cron=cron, time_zone=time_zone, start=start, end=end, jitter=jitter)
        message, _ = schedule_of(given, full_name("schedules", name) if name else "")
        times = session.client.schedules.preview(message, count=count, time_zone=show_zone)
    show_list(times, TIMES, mode_of(session, output), empty="it never runs again")


def _done(session: Session, schedule: Schedule, text: str, output: Mode | None) -> None:
    mode = mode_of(session, output)
    if mode is not Mode.TABLE:
        show_one(schedule, mode)
        return
    following = f"; next {_when(schedule.next_time)} UTC" if schedule.HasField("next_time") else ""
    session.say(f"{schedule.name or 'the schedule'} {text}{following}")

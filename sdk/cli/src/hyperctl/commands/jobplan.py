"""hyperctl job submit, explain, graph: jobs of any task, with everything that can keep one waiting."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import FailedPrecondition

from hyperctl import exits
from hyperctl.commands.common import DryRunOption, OutputOption, complete_job, full_name, mode_of
from hyperctl.commands.documents import FileOption, SetOption, document
from hyperctl.commands.group import draw
from hyperctl.commands.submit import DetachOption, PriorityOption, RateOption
from hyperctl.output import Column, Mode, show_list, show_one
from hyperctl.pairs import parse_pairs, typed
from hyperctl.session import Session
from hyperctl.units import parse_size
from hyperctl.waiting import follow

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.jobs_pb2 import JobHindrance

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="jobs/x, or x.", autocompletion=complete_job)]

HINDRANCES: list[Column[JobHindrance]] = [
    Column("REASON", lambda h: h.reason),
    Column("WHAT", lambda h: h.message),
    Column("UNTIL (UTC)", lambda h: h.until.ToDatetime().strftime("%Y-%m-%d %H:%M:%S") if h.HasField("until") else ""),
    Column("WHAT HELPS", lambda h: h.remedy),
]


def submit_job(
    context: typer.Context,
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="export, convert, …")] = None,
    file: FileOption = None,
    spec: Annotated[
        list[str] | None, typer.Option("--spec", metavar="KEY=VALUE", help="Of the job's spec; repeatable.")
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option("--after", metavar="JOB[:NEED]", help="Wait until it has succeeded, failed or finished."),
    ] = None,
    window: Annotated[str | None, typer.Option(help="Run only while this window is open.")] = None,
    not_before: Annotated[str | None, typer.Option(help="2026-11-25T02:00:00Z.")] = None,
    deadline: Annotated[str | None, typer.Option(help="Ended by then, or failed: 2026-11-25T06:00:00Z.")] = None,
    max_run: Annotated[str | None, typer.Option(help="Longest an attempt may run: 6h.")] = None,
    executor: Annotated[str | None, typer.Option(help="Run it on a machine that this executor has.")] = None,
    placement: Annotated[
        list[str] | None,
        typer.Option("--placement", metavar="KEY=VALUE", help="What that machine must have; repeatable."),
    ] = None,
    priority: PriorityOption = None,
    rate_limit: RateOption = None,
    job_id: Annotated[str, typer.Option("--id", help="Chosen by the daemon if absent.")] = "",
    fields: SetOption = None,
    detach: DetachOption = False,
    dry_run: DryRunOption = False,
    output: OutputOption = None,
) -> None:
    """Queue a job of any task, from a file, flags, or both."""
    from hypersdk.api.jobs.v1.jobs_pb2 import Job

    session = Session.of(context)
    flags = {
        "task": task, "spec": typed(parse_pairs(spec or [], flag="--spec")) or None, "priority": priority,
        "dependencies": [_dependency(text) for text in after or []],
        "window": full_name("windows", window) if window else None, "earliest_start_time": not_before,
        "deadline": deadline, "max_run_duration": max_run, "executor": executor,
        "placement": parse_pairs(placement or [], flag="--placement") or None,
        "bandwidth_limit_bytes": parse_size(rate_limit) if rate_limit else None,
    }  # fmt: skip
    message = document(Job(), file, fields, flags)
    job = session.client.jobs.submit(message, job_id=job_id, validate_only=dry_run)
    mode = mode_of(session, output)
    if dry_run:
        session.say("checked; nothing was started. The job would be:")
        show_one(job, mode)
    elif not detach:
        raise typer.Exit(follow(session, job.name, mode))
    elif mode is Mode.TABLE:
        sys.stdout.write(job.name + "\n")
    else:
        show_one(job, mode)
    raise typer.Exit(exits.OK)


def explain_job(context: typer.Context, name: JobArgument, output: OutputOption = None) -> None:
    """Say why a job is where it is, and what would make it go on."""
    session = Session.of(context)
    found = session.client.jobs.explain(full_name("jobs", name))
    mode = mode_of(session, output)
    if mode not in {Mode.TABLE, Mode.WIDE}:
        show_one(found, mode)
        return
    sys.stdout.write(f"{found.job.name}: {found.summary}\n")
    if found.hindrances:
        show_list(found.hindrances, HINDRANCES, mode)


def graph_job(
    context: typer.Context,
    name: JobArgument,
    dot: Annotated[bool, typer.Option("--dot", help="For Graphviz.")] = False,
) -> None:
    """Draw the group that a job belongs to."""
    session = Session.of(context)
    if name.startswith("jobGroups/"):
        draw(session, name, dot=dot)
        return
    job = session.client.jobs.get(full_name("jobs", name))
    if not job.group:
        raise FailedPrecondition(
            f"{job.name} was not submitted with a group; `hyperctl job explain {name}` says what it waits for",
            reason="JOB_HAS_NO_GROUP",
        )
    draw(session, job.group, dot=dot)


def _dependency(text: str) -> dict[str, str]:
    name, _, need = text.partition(":")
    return {"job": full_name("jobs", name), "need": need.upper() or "SUCCEEDED"}

"""Submitting a job from a command: dry run, detach, or wait for its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from hyperctl import exits
from hyperctl.output import Mode, show_one
from hyperctl.session import Session
from hyperctl.units import parse_size
from hyperctl.waiting import follow

DetachOption = Annotated[
    bool, typer.Option("--detach", "-d", help="Print the job's name and return; the job goes on.")
]
PriorityOption = Annotated[int | None, typer.Option(min=0, max=100, help="100 runs first; 50 by default.")]
RateOption = Annotated[str | None, typer.Option("--rate-limit", help="Bytes a second: 200MiB.")]


def submit(
    session: Session,
    task: str,
    spec: Mapping[str, Any],
    *,
    priority: int | None,
    rate_limit: str | None,
    detach: bool,
    dry_run: bool,
    mode: Mode,
) -> int:
    """The exit status: of the job, unless it was only checked or left running."""
    job = session.client.jobs.create(
        task,
        spec,
        priority=priority,
        bandwidth_limit_bytes=parse_size(rate_limit) if rate_limit else 0,
        validate_only=dry_run,
    )
    if dry_run:
        session.say("checked; nothing was started. The job would be:")
        show_one(job, mode)
        return exits.OK
    if detach:
        if mode is Mode.TABLE:
            sys.stdout.write(job.name + "\n")
        else:
            show_one(job, mode)
        return exits.OK
    return follow(session, job.name, mode)

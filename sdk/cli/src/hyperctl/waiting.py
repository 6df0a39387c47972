"""Following a job until it ends: progress on stderr, the result on stdout.

The first Ctrl-C detaches: the job goes on and the user is told how to come back and how to cancel. A second one, or
one before the job exists, interrupts the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypersdk.client.terminal import failure_of

from hyperctl import exits
from hyperctl.messages import enum_name
from hyperctl.output import Mode, show_one
from hyperctl.progress import ProgressLine
from hyperctl.units import format_bytes, format_duration

if TYPE_CHECKING:
    from hypersdk.api.jobs.v1.jobs_pb2 import Job

    from hyperctl.session import Session


def state_of(job: Job) -> str:
    """`RUNNING`, `SUCCEEDED`, …"""
    return enum_name(job.DESCRIPTOR.fields_by_name["state"], job.state)


def seconds_of(job: Job) -> float:
    """Seconds from the first attempt's start to the end; -1 where it has none."""
    if not (job.HasField("start_time") and job.HasField("end_time")):
        return -1.0
    seconds: float = (job.end_time.ToDatetime() - job.start_time.ToDatetime()).total_seconds()
    return seconds


def follow(session: Session, name: str, mode: Mode) -> int:
    """Wait for the job; print it when `mode` is not the table. Returns the exit code; raises why it failed."""
    line = ProgressLine(name, enabled=not session.quiet)
    last_state = ""

    def show(job: Job) -> None:
        nonlocal last_state
        state = state_of(job)
        if state not in {last_state, "RUNNING", "SUCCEEDED", "FAILED"}:
            line.finish(f"{name}  {state}{f': {job.state_message}' if job.state_message else ''}")
        last_state = state
        if job.HasField("progress"):
            progress = job.progress
            moved = max(progress.bytes_read, progress.bytes_written)
            saved = progress.bytes_done - moved if state == "RUNNING" else 0
            line.update(
                max(0, progress.bytes_done), progress.bytes_total, phase=progress.phase, saved=max(0, saved)
            )

    try:
        job = session.client.jobs.wait(name, show)
    except KeyboardInterrupt:
        line.finish()
        session.say(
            f"\ndetached; {name} goes on\n  next: hyperctl job watch {name}   (or: hyperctl job cancel {name})"
        )
        return exits.INTERRUPTED
    failure = failure_of(job)
    line.finish()
    if mode is not Mode.TABLE:
        show_one(job, mode)
    if failure is not None:
        raise failure
    session.say(_summary(job))
    return exits.OK


def _summary(job: Job) -> str:
    """`jobs/x  SUCCEEDED in 12s: read 1.0 GiB, wrote 400 MiB`."""
    seconds = seconds_of(job)
    text = f"{job.name}  {state_of(job)}" + (f" in {format_duration(seconds)}" if seconds >= 0 else "")
    if job.HasField("progress"):
        progress = job.progress
        text += f": read {format_bytes(progress.bytes_read)}, wrote {format_bytes(progress.bytes_written)}"
    return text

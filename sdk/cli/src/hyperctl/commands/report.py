"""hyperctl job report: what became of the jobs of a time, as tables, JSON, CSV or one HTML page."""

from __future__ import annotations

import enum
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from hypersdk.errors import InvalidArgument

from hyperctl.commands.common import FilterOption
from hyperctl.output import Mode, show_table, show_value
from hyperctl.session import Session
from hyperctl.units import parse_duration

if TYPE_CHECKING:
    from hypersdk.api.reports.v1.reports_pb2 import JobReport


class ReportMode(enum.StrEnum):
    """Values of -o."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    HTML = "html"


def report_jobs(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", help="30d, 12h, or 2026-01-31[T12:00:00Z].")] = "30d",
    until: Annotated[str, typer.Option("--until", help="The same; else now.")] = "",
    filter_text: FilterOption = "",
    slowest: Annotated[int, typer.Option("--slowest", min=1, max=100, help="Length of that list.")] = 10,
    output: Annotated[ReportMode, typer.Option("-o", "--output", help="How to print.")] = ReportMode.TABLE,
) -> None:
    """Sum up the jobs that ended in a time: success, durations, bytes, by task, connection and day."""
    session = Session.of(context)
    now = time.time()
    end = moment(until, now) if until else now
    report = session.client.reports.jobs(
        start_s=moment(since, end), end_s=end, filter=filter_text, slowest=slowest
    )
    show(report, output)


def moment(text: str, end_s: float) -> float:
    """Seconds since the epoch: so long before `end_s`, or a date or time (UTC unless it says otherwise)."""
    if text[:4].isdigit() and "-" in text:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as exc:
            raise InvalidArgument(f"{text[:40]!r} is no date or time", reason="TIME_INVALID") from exc
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    return end_s - parse_duration(text)


def show(report: JobReport, mode: ReportMode) -> None:
    """Print it."""
    from hyperctl import reporting

    if mode is ReportMode.CSV:
        sys.stdout.write(reporting.csv_of(report))
    elif mode is ReportMode.HTML:
        sys.stdout.write(reporting.html_of(report))
    elif mode is ReportMode.TABLE:
        for index, part in enumerate(reporting.parts_of(report)):
            if part.rows:
                sys.stdout.write(("\n" if index else "") + part.title + "\n")
                show_table(list(part.columns), [[reporting.one_line(cell) for cell in row] for row in part.rows])
    else:
        from hyperctl.messages import to_plain

        show_value(to_plain(report), Mode(mode.value))

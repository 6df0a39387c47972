"""A job report as tables of text, as CSV and as one HTML page. Pure.

Names of tasks, connections, jobs and reasons may have been chosen by strangers: in HTML everything is escaped and
nothing can be loaded or run; in CSV what a spreadsheet would take for a formula is marked as text.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperctl.units import format_bytes, format_duration

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from hypersdk.api.reports.v1.reports_pb2 import JobReport, JobSums

_SUMS = ("JOBS", "OK", "FAILED", "CANCELLED", "SUCCESS", "P50", "P95", "MAX", "WAIT", "READ", "WRITTEN", "RATE")
_CSV = (
    "section", "key", "jobs", "succeeded", "failed", "cancelled", "success_rate", "attempts", "read_bytes",
    "written_bytes", "run_s", "run_p50_s", "run_p95_s", "run_max_s", "wait_mean_s", "throughput_bytes",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Part:
    """One table. `rates`: of each row the success rate, 0 to 1, or None; empty where there is none."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]]
    rates: Sequence[float | None] = ()


def parts_of(report: JobReport) -> list[Part]:
    """Every table of the report, empty ones too."""
    start, end = (t.ToDatetime().strftime("%Y-%m-%d %H:%M") for t in (report.start_time, report.end_time))
    sections = (
        (f"Jobs that ended from {start} to {end} UTC", "", [report.total]), ("By task", "TASK", report.tasks),
        ("By connection", "CONNECTION", report.connections), ("By day", "DAY", report.days),
    )  # fmt: skip
    parts = [
        Part(
            title,
            ([key] if key else []) + list(_SUMS),
            [([sums.key] if key else []) + _cells(sums) for sums in rows],
            [sums.success_rate if sums.HasField("success_rate") else None for sums in rows],
        )
        for title, key, rows in sections
    ]
    parts.append(
        Part("Why jobs failed", ("REASON", "JOBS"), [[r.reason or "-", str(r.job_count)] for r in report.reasons])
    )
    slow = [
        [s.name, s.task, s.state, _seconds(s.run_time), str(s.attempt_count), format_bytes(s.read_bytes)]
        for s in report.slowest
    ]
    parts.append(Part("Longest runs", ("NAME", "TASK", "STATE", "TOOK", "ATTEMPTS", "READ"), slow))
    return parts


def csv_of(report: JobReport) -> str:
    """One table of all sums; numbers in bytes and seconds, RFC 4180."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_CSV)
    for section, rows in (
        ("total", [report.total]), ("task", report.tasks), ("connection", report.connections), ("day", report.days),
    ):  # fmt: skip
        for s in rows:
            writer.writerow([
                section, _cell(s.key), s.job_count, s.succeeded_count, s.failed_count, s.cancelled_count,
                f"{s.success_rate:.4f}" if s.HasField("success_rate") else "", s.attempt_count, s.read_bytes,
                s.written_bytes,
                *("" if t is None else f"{t:.3f}" for t in _times(s)),
                s.throughput_bytes,
            ])  # fmt: skip
    for reason in report.reasons:
        writer.writerow(["reason", _cell(reason.reason), reason.job_count] + [""] * (len(_CSV) - 3))
    return out.getvalue()


def html_of(report: JobReport) -> str:
    """A page that needs nothing else: no script, no link, no image."""
    body = "\n".join(_section(part) for part in parts_of(report))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>HyperSDK job report</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ padding: .25em .6em; text-align: right }}
th {{ border-bottom: 2px solid #888; font-weight: 600 }} td {{ border-bottom: 1px solid #ddd }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere }}
.bar {{ background: #d33; height: .5em; min-width: 6em }} .bar div {{ background: #2a2; height: 100% }}
</style></head><body>
<h1>HyperSDK job report</h1>
{body}
</body></html>
"""


def one_line(text: str) -> str:
    """For a terminal: without control characters and marks that turn the reading order."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _section(part: Part) -> str:
    if not part.rows:
        return ""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in part.columns)
    rows = []
    for index, row in enumerate(part.rows):
        cells = "".join(f"<td>{html.escape(one_line(cell))}</td>" for cell in row)
        if part.rates:
            rate = part.rates[index]
            cells += f"<td>{_bar(rate)}</td>"
        rows.append(f"<tr>{cells}</tr>")
    head += "<th></th>" if part.rates else ""
    return (
        f"<h2>{html.escape(part.title)}</h2>\n<table><thead><tr>{head}</tr></thead>\n<tbody>"
        + "\n".join(rows) + "</tbody></table>"
    )  # fmt: skip


def _bar(rate: float | None) -> str:
    return "" if rate is None else f'<div class="bar"><div style="width: {100 * rate:.1f}%"></div></div>'


def _cells(s: JobSums) -> list[str]:
    return [
        str(s.job_count), str(s.succeeded_count), str(s.failed_count), str(s.cancelled_count),
        f"{100 * s.success_rate:.1f}%" if s.HasField("success_rate") else "-",
        *("-" if t is None else format_duration(t) for t in _times(s)[1:]),
        format_bytes(s.read_bytes), format_bytes(s.written_bytes), f"{format_bytes(s.throughput_bytes)}/s",
    ]  # fmt: skip


def _seconds(length: Duration) -> str:
    return format_duration(length.seconds + length.nanos / 1e9)


def _times(s: JobSums) -> list[float | None]:
    """Run time in all, p50, p95, longest, and the mean wait, seconds; None where nothing ran."""
    ran = s.HasField("run_time_p50")
    return [
        t.seconds + t.nanos / 1e9 if ran else None
        for t in (s.run_time, s.run_time_p50, s.run_time_p95, s.run_time_max, s.wait_time_mean)
    ]


def _cell(text: str) -> str:
    return "'" + text if text.startswith(_FORMULA) else text

"""Reports in each form, with names that strangers chose."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hyperctl import reporting
from hyperctl.commands.report import ReportMode, moment, show
from hypersdk.api.reports.v1 import reports_pb2 as pb
from hypersdk.errors import InvalidArgument

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=1>', "=cmd|' /C calc'!A0", "\x1b]0;owned\x07", "\u202egnp.exe",
)  # fmt: skip


def report(key="export"):
    made = pb.JobReport()
    made.start_time.FromSeconds(1_800_000_000)
    made.end_time.FromSeconds(1_802_592_000)
    for sums in (made.total, made.tasks.add(key=key), made.connections.add(key=f"connections/{key}"), made.days.add()):
        sums.job_count, sums.succeeded_count, sums.failed_count, sums.success_rate = 4, 3, 1, 0.75
        sums.read_bytes, sums.throughput_bytes = 3 << 30, 100 << 20
        sums.run_time_p50.FromMilliseconds(61_500)
    made.days[0].key = "2027-01-15"
    made.reasons.add(reason=key, job_count=1)
    slow = made.slowest.add(name=f"jobs/{key}", task=key, state="FAILED", attempt_count=2)
    slow.run_time.FromSeconds(3661)
    return made


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]


@pytest.mark.parametrize("name", HOSTILE)
def test_html_is_one_page_in_which_names_are_only_text(name):
    text = reporting.html_of(report(name))
    tags = Tags()
    tags.feed(text)
    assert not tags.tags & {"script", "img", "link", "iframe", "a", "svg", "object", "base", "form"}
    assert not [attribute for attribute in tags.attributes if attribute.startswith("on")]
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=", text.replace("src=x", ""))
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_html_tells_what_the_tables_tell():
    text = reporting.html_of(report())
    assert "75.0%" in text
    assert "By connection" in text
    assert "1h" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_has_whole_rows_and_no_formulas(name):
    rows = list(csv.reader(io.StringIO(reporting.csv_of(report(name)))))
    assert {len(row) for row in rows} == {16}
    assert [row[0] for row in rows[1:]] == ["total", "task", "connection", "day", "reason"]
    assert not any(row[1].startswith(("=", "+", "-", "@")) for row in rows)
    assert rows[2][6] == "0.7500"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_gets_no_control_characters(capsys, name):
    show(report(name), ReportMode.TABLE)
    out = capsys.readouterr().out
    assert "By task" in out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_json_and_yaml_say_the_same(capsys):
    import yaml

    show(report(), ReportMode.JSON)
    as_json = json.loads(capsys.readouterr().out)
    show(report(), ReportMode.YAML)
    assert yaml.safe_load(capsys.readouterr().out) == as_json
    assert as_json["total"]["success_rate"] == 0.75


def test_an_empty_report_is_one_table(capsys):
    empty = pb.JobReport()
    show(empty, ReportMode.TABLE)
    assert "By task" not in capsys.readouterr().out
    assert reporting.html_of(empty).count("<table>") == 1


def test_moments():
    assert moment("30d", 100 * 86_400.0) == 70 * 86_400.0
    assert moment("2026-01-31", 0.0) == 1_769_817_600.0
    assert moment("2026-01-31T12:00:00+02:00", 0.0) == 1_769_853_600.0
    for wrong in ("2026-99-99", "yesterday", "-3d"):
        with pytest.raises(InvalidArgument):
            moment(wrong, 0.0)

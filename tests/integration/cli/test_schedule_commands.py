"""hyperctl schedule against a daemon: template files, flags, previews, manual runs."""

import json

import pytest
import yaml

TEMPLATE = """
cron: 30 2 * * *
time_zone: Europe/Berlin
start_time: 2026-01-01 00:00:00
jitter: 10m
missed_run_policy: {action: catch_up, catch_up_limit: 3, missed_after: 5m}
overlap_policy: queue
variables: {where: %(folder)s}
job:
  task: convert
  retry_policy: {max_attempts: 2, initial_delay: 1m30s}
  labels: {release: 7}
  spec:
    source_path: ${where}/disk.raw
    source_format: raw
    target_path: ${where}/copy-${run_number}.raw
    format: raw
"""


@pytest.fixture
def template(tmp_path):
    (tmp_path / "disk.raw").write_bytes(b"y" * 4096)
    path = tmp_path / "nightly.yaml"
    path.write_text(TEMPLATE % {"folder": tmp_path})
    return path


def test_a_template_file_becomes_a_schedule_and_comes_back_as_one(daemon, template, tmp_path):
    daemon.hyperctl("schedule", "create", "nightly", "-f", template)
    said = daemon.hyperctl("schedule", "get", "nightly", "-o", "yaml").stdout
    kept = yaml.safe_load(said)
    assert (kept["cron"], kept["overlap_policy"], kept["jitter"]) == ("30 2 * * *", "QUEUE", 600.0)
    assert kept["missed_run_policy"] == {"action": "CATCH_UP", "catch_up_limit": 3, "missed_after": 300.0}
    assert kept["job_template"]["labels"] == {"release": "7"}
    assert kept["start_time"] == "2026-01-01T00:00:00Z"
    again = tmp_path / "again.yaml"
    again.write_text(said)
    daemon.hyperctl("schedule", "create", "again", "-f", again, "--cron", "@hourly")
    daemon.hyperctl("schedule", "update", "nightly", "-f", again)
    (first, second) = json.loads(daemon.hyperctl("schedule", "list", "-o", "json").stdout)
    assert first["job_template"] == second["job_template"] == kept["job_template"]
    assert first["cron"] == "@hourly"

    done = daemon.hyperctl("schedule", "run", "nightly", "--wait")
    assert (tmp_path / "copy-1.raw").read_bytes() == b"y" * 4096, done.stderr
    table = daemon.hyperctl("schedule", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "WHEN"]
    assert "SUCCEEDED" in table[2]


def test_a_schedule_is_made_changed_paused_and_deleted_with_flags(daemon, tmp_path):
    (tmp_path / "disk.raw").write_bytes(bytes(512))
    spec = ("--spec", f"source_path={tmp_path}/disk.raw", "--spec", "source_format=raw", "--spec", "format=raw",
            "--spec", f"target_path={tmp_path}/${{day}}.raw", "--variable", "day=today")  # fmt: skip
    daemon.hyperctl("schedule", "create", "s", "--cron", "@every 1h30m", "--task", "convert", *spec, "--dry-run")
    daemon.hyperctl("schedule", "create", "s", "--cron", "@every 1h30m", "--task", "convert", *spec)
    said = daemon.hyperctl("schedule", "update", "s", "--missed", "skip", "--at", "2099-01-01T00:00:00Z").stderr
    assert "next 2099-01-01 00:00:00 UTC" in said
    daemon.hyperctl("schedule", "pause", "s", "--reason", "array rebuild")
    wide = daemon.hyperctl("schedule", "list", "-o", "wide").stdout
    assert "PAUSED" in wide
    assert "array rebuild" in wide
    daemon.hyperctl("schedule", "resume", "s")
    daemon.hyperctl("schedule", "delete", "s")
    assert daemon.hyperctl("schedule", "get", "s", check=False).returncode == 5


def test_times_are_previewed_without_a_schedule(daemon, template):
    shown = daemon.hyperctl("schedule", "preview", "--cron", "0 12 * * *", "--tz", "Asia/Tokyo", "-n", "2").stdout
    lines = shown.splitlines()
    assert len(lines) == 3
    assert "T12:00:00+09:00" in lines[1]
    assert "03:00:00" in lines[1]
    assert len(daemon.hyperctl("schedule", "preview", "-f", template).stdout.splitlines()) == 11


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("cron: '@daily'\njob: {task: convert}\ncrom: x", "crom"),
        ("cron: '@daily'\noverlap_policy: maybe", "FORBID, QUEUE, REPLACE"),
        ("cron: '@daily'\njitter: soon", "duration"),
        ("cron: '@daily'\nstart_time: yesterday", "start_time"),
        ("cron: [1]", "cron"),
        ("- 1", "mapping"),
        ("cron: '@daily'\njob: {}\njob_template: {}", "same"),
    ],
)
def test_a_slip_in_a_template_is_named(daemon, tmp_path, text, word):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    done = daemon.hyperctl("schedule", "create", "s", "-f", path, check=False)
    assert done.returncode == 2
    assert word in done.stderr

"""A daemon killed again and again under a schedule that fires each second: no occurrence is run twice, none is lost
uncounted."""

import json
import time

import pytest

pytestmark = pytest.mark.faults


def test_kill_9_of_the_kernel_never_doubles_an_occurrence(daemon, tmp_path):
    (tmp_path / "disk.raw").write_bytes(bytes(512))
    spec = [f"source_path={tmp_path}/disk.raw", "source_format=raw", "format=raw",
            f"target_path={tmp_path}/copy-${{run_number}}.raw"]  # fmt: skip
    flags = [part for pair in spec for part in ("--spec", pair)]
    daemon.hyperctl(
        "schedule", "create", "each-second", "--cron", "* * * * * *", "--task", "convert", *flags,
        "--overlap", "queue", "--catch-up", "3",
    )  # fmt: skip
    for seconds in (1.3, 0.4, 2.1):
        time.sleep(seconds)
        daemon.kill()
        daemon.start()
    time.sleep(1.5)
    daemon.hyperctl("schedule", "pause", "each-second")
    schedule = json.loads(daemon.hyperctl("schedule", "get", "each-second", "-o", "json").stdout)
    asked = 'schedule = "schedules/each-second"'
    jobs = json.loads(daemon.hyperctl("job", "list", "--filter", asked, "--limit", "0", "-o", "json").stdout)
    times = [job["scheduled_time"] for job in jobs]
    assert len(times) >= 3
    assert len(set(times)) == len(times)
    assert len({job["spec"]["target_path"] for job in jobs}) == len(jobs)  # each run number once
    assert schedule["counts"]["runs"] == len(jobs)
    assert schedule["counts"]["refused"] == 0

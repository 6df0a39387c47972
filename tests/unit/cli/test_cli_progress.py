"""The progress line, on a terminal and elsewhere, with a clock of our own."""

import io

import pytest
from hyperctl.image.convert import RateLimit
from hyperctl.progress import ProgressLine


class _Terminal(io.StringIO):
    def isatty(self):
        return True


class _Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _feed(line, clock, seconds, step_s=1.0):
    for i in range(int(seconds / step_s) + 1):
        line.update(i << 20, 100 << 20, phase="copy")
        clock.now += step_s


def test_elsewhere_there_is_a_line_every_ten_seconds():
    out, clock = io.StringIO(), _Clock()
    _feed(ProgressLine("jobs/x", stream=out, clock=clock), clock, 35)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "jobs/x  copy  10.0%  10 MiB of 100 MiB  1 MiB/s  1m30s left"


def test_a_short_run_elsewhere_prints_nothing():
    out, clock = io.StringIO(), _Clock()
    line = ProgressLine("x", stream=out, clock=clock)
    _feed(line, clock, 5)
    line.finish()
    assert out.getvalue() == ""


def test_on_a_terminal_the_line_is_redrawn_and_erased():
    out, clock = _Terminal(), _Clock()
    line = ProgressLine("x", stream=out, clock=clock)
    _feed(line, clock, 1, step_s=0.01)
    assert 9 <= out.getvalue().count("\r") <= 12
    line.finish("done")
    assert out.getvalue().endswith("\rdone\n")


def test_the_rate_is_that_of_the_last_seconds():
    clock = _Clock()
    line = ProgressLine("x", stream=io.StringIO(), clock=clock)
    for done in (0, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1500):
        line.update(done, 10_000)
        clock.now += 1.0
    assert line.rate() == pytest.approx(100.0)


def test_a_job_that_starts_over_starts_its_rate_over():
    clock = _Clock()
    line = ProgressLine("x", stream=io.StringIO(), clock=clock)
    for done in (5000, 9000, 10):
        line.update(done, 10_000)
        clock.now += 1.0
    assert line.rate() == 0.0


def test_a_disabled_line_is_silent():
    out, clock = _Terminal(), _Clock()
    line = ProgressLine("x", stream=out, enabled=False, clock=clock)
    _feed(line, clock, 60)
    line.finish("done")
    assert out.getvalue() == ""


def test_a_rate_limit_sleeps_what_the_bytes_cost():
    clock, slept = _Clock(), []

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds

    limit = RateLimit(1000, clock, sleep)
    for _ in range(10):
        limit(500)
    assert sum(slept) == pytest.approx(5.0)


def test_a_pause_earns_a_burst_of_one_second_at_most():
    clock, slept = _Clock(), []

    def sleep(seconds):
        slept.append(seconds)
        clock.now += seconds

    limit = RateLimit(1000, clock, sleep)
    clock.now += 3600
    limit(3000)
    assert sum(slept) == pytest.approx(2.0)

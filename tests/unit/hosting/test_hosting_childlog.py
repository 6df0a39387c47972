"""What a host prints and logs, in the kernel's log."""

import asyncio
import os

import pytest
import structlog
from hosting_fakes import eventually
from hypersdk_kernel.hosting import childlog
from hypersdk_kernel.hosting.childlog import MAX_LINE_BYTES, ChildLog
from hypersdk_kernel.hosting.registry import Registry
from structlog.testing import LogCapture


@pytest.fixture
def captured(monkeypatch):
    capture = LogCapture()
    logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture])
    monkeypatch.setattr(childlog, "log", logger)
    return capture.entries


@pytest.fixture
async def child_log(captured):
    made = ChildLog("plugins/x/generations/1", Registry([]).redact, 5)
    made._loop = FrozenLoop(made._loop)
    yield made
    made.close()


class FrozenLoop:
    """The running loop, at a time that stands still, so that a rate is exact."""

    def __init__(self, loop):
        self.add_reader, self.remove_reader = loop.add_reader, loop.remove_reader
        self.now = 1000.0

    def time(self):
        return self.now


async def test_lines_are_logged_with_their_stream_also_the_last_one_without_an_end(child_log, captured):
    out, err = child_log.attach("stdout"), child_log.attach("stderr")
    os.write(out, b"one\n\ntw")
    os.write(out, b"o\nrest")
    os.write(err, b"bad \xff byte\n")
    os.close(out)
    os.close(err)
    await eventually(lambda: len(captured) == 4)
    assert [(e["stream"], e["line"]) for e in captured if e["stream"] == "stdout"] == [
        ("stdout", "one"), ("stdout", "two"), ("stdout", "rest"),
    ]  # fmt: skip
    assert "bad \\xff byte" in [e["line"] for e in captured]


async def test_an_endless_line_is_cut_and_does_not_fill_the_memory(child_log, captured):
    out = child_log.attach("stdout")
    os.write(out, b"x" * 60_000)
    await eventually(lambda: len(captured) == 1)
    os.close(out)
    assert len(captured[0]["line"]) == MAX_LINE_BYTES


async def test_lines_above_the_rate_are_counted_instead_of_written(child_log, captured):
    out = child_log.attach("stdout")
    os.write(out, b"line\n" * 50)
    await eventually(lambda: child_log._suppressed == 45)
    child_log._loop.now += 1
    os.write(out, b"line\n")
    os.close(out)
    await eventually(lambda: len(captured) == 7)
    assert captured[5]["event"] == "host_log_suppressed"
    assert captured[5]["lines"] == 45


async def test_log_records_keep_their_level_and_lose_their_secrets(child_log, captured):
    fields = {"user": "u", "API_Key": "k", "password": 1}
    child_log.record({"level": "error", "event": "login_failed", "fields": fields})
    child_log.record({"level": "critical!", "event": 7, "fields": "text"})
    assert captured[0]["log_level"] == "error"
    assert captured[0]["host_event"] == "login_failed"
    assert captured[0]["fields"] == {"user": "u", "API_Key": "[redacted]", "password": "[redacted]"}
    assert (captured[1]["log_level"], captured[1]["host_event"], captured[1]["fields"]) == ("info", "7", {})


async def test_closing_reads_what_is_left_in_the_pipe(child_log, captured):
    out = child_log.attach("stderr")
    os.write(out, b"last words")
    os.close(out)
    child_log.close()
    assert captured[0]["line"] == "last words"
    await asyncio.sleep(0)

"""Pausing, cancelling, throttling, and thinning out progress, on a clock that the test moves."""

import json
import threading

import pytest
from hypersdk.errors import Cancelled, InvalidArgument
from hypersdk.plugin.task import Progress
from hypersdk.runner.gate import Gate
from hypersdk.runner.journal import Journal
from hypersdk.runner.progress import ProgressMeter
from hypersdk.runner.throttle import BURST_S, TokenBucket
from hypersdk.wire.redact import Redactor

WAIT_S = 10.0


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class SteppedBucket(TokenBucket):
    """A bucket whose waiting moves the clock; `waited` adds it up."""

    def __init__(self, rate):
        self.clock = Clock()
        super().__init__(rate, self.clock)
        self.waited = 0.0
        self._changed = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def notify_all(self):
        return None

    def wait(self, seconds):
        self.waited += seconds
        self.clock.now += seconds


def test_an_open_gate_lets_pass_and_a_cancelled_one_raises_with_the_first_reason():
    gate = Gate()
    gate.check()
    assert gate.cancel("not needed") is True
    assert gate.cancel("again") is False
    with pytest.raises(Cancelled, match="not needed"):
        gate.check()


def test_a_paused_gate_holds_until_it_is_resumed():
    gate = Gate(paused=True)
    passed = threading.Event()
    waiting = threading.Thread(target=lambda: (gate.check(), passed.set()))
    waiting.start()
    assert gate.pause() is False
    assert not passed.is_set()
    assert gate.resume() is True
    assert gate.resume() is False
    assert passed.wait(WAIT_S)
    waiting.join()


def test_cancelling_ends_a_pause():
    gate = Gate(paused=True)
    caught = []

    def wait():
        with pytest.raises(Cancelled):
            gate.check()
        caught.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    gate.cancel("")
    waiting.join(WAIT_S)
    assert caught == [True]


def test_without_a_limit_nobody_waits():
    bucket = SteppedBucket(0)
    bucket.take(1 << 50)
    assert bucket.waited == 0


@pytest.mark.parametrize("piece", [100, 1000, 50_000])
def test_bytes_pass_at_the_rate_whatever_their_pieces(piece):
    bucket = SteppedBucket(1000)
    for _ in range(100_000 // piece):
        bucket.take(piece)
    assert bucket.waited == pytest.approx(100 - BURST_S, abs=0.01)


def test_unused_bandwidth_is_kept_for_a_moment_only():
    bucket = SteppedBucket(1000)
    bucket.clock.now += 3600
    bucket.take(10_000)
    assert bucket.waited == pytest.approx(10 - BURST_S, abs=0.01)


def test_a_new_rate_holds_from_now_on():
    bucket = SteppedBucket(1000)
    bucket.take(1000)
    bucket.set_rate(100)
    before = bucket.waited
    bucket.take(100)
    assert bucket.waited - before == pytest.approx(1.0, abs=0.02)
    bucket.set_rate(0)
    bucket.take(1 << 40)
    assert bucket.waited - before == pytest.approx(1.0, abs=0.02)
    bucket.set_rate(1000)
    bucket.take(1000)
    assert bucket.waited - before <= 2.01


@pytest.mark.parametrize("how", [lambda b: b.release(), lambda b: b.set_rate(0)])
def test_who_waits_in_the_bucket_is_freed(how):
    bucket = TokenBucket(1)
    waiting = threading.Thread(target=bucket.take, args=(1 << 40,))
    waiting.start()
    how(bucket)
    waiting.join(WAIT_S)
    assert not waiting.is_alive()


@pytest.fixture
def meter(tmp_path):
    clock = Clock()
    journal = Journal(tmp_path / "journal.jsonl", Redactor())
    meter = ProgressMeter(journal, Redactor(["hunter2!"]), clock)
    meter.clock = clock
    meter.journaled = lambda: [
        json.loads(line)["bytes_done"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()
    ]
    return meter


def test_progress_is_published_ten_times_a_second_and_journaled_every_two_seconds(meter):
    for step in range(500):
        meter.update(Progress("copy", bytes_done=step))
        meter.clock.now += 0.01
    assert 45 <= meter.version <= 51
    assert meter.journaled() == [0, 200, 400]
    meter.flush()
    meter.flush()
    assert meter.journaled() == [0, 200, 400, 499]
    assert meter.published["bytes_done"] == 499


def test_a_new_phase_is_published_at_once(meter):
    meter.update(Progress("copy"))
    meter.update(Progress("verify"))
    assert meter.published["phase"] == "verify"


def test_published_progress_holds_no_secret(meter):
    meter.update(Progress(message="hunter2!", details={"url": "x?hunter2!"}))
    assert "hunter2!" not in str(meter.published)


@pytest.mark.parametrize(
    "progress",
    [
        Progress(bytes_done="many"),
        Progress(details={"x": object()}),
        Progress(details={"x": float("nan")}),
        Progress(details={"x": "y" * 100_000}),
    ],
)
def test_progress_that_cannot_be_told_is_refused(meter, progress):
    with pytest.raises(InvalidArgument) as caught:
        meter.update(progress)
    assert caught.value.reason == "PROGRESS_INVALID"

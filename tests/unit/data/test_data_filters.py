"""Filters are of the type of what they wrap and change one thing each."""

from __future__ import annotations

import inspect

import pytest
from hypersdk.data.extent import ExtentKind, FileRange
from hypersdk.data.filters import (
    CachedSource,
    ForwardingSink,
    ForwardingSource,
    Meter,
    MeteredSink,
    MeteredSource,
    RetryingSource,
    ThrottledSink,
    ThrottledSource,
    TokenBucket,
    WindowSource,
)  # fmt: skip
from hypersdk.data.pipeline import copy
from hypersdk.data.sink import BlockSink
from hypersdk.data.source import BlockSource
from hypersdk.errors import DataLoss, InvalidArgument, OutOfRange, Unavailable
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.data.disks import LAYOUTS, FileSource, MemorySink, MemorySource

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO
MIB = 1 << 20


@pytest.mark.parametrize(("contract", "forward"), [(BlockSource, ForwardingSource), (BlockSink, ForwardingSink)])
def test_every_method_of_the_contract_is_forwarded(contract, forward):
    public = {n for n, _ in inspect.getmembers(contract) if not n.startswith("_")} - {"random_access", "encodes"}
    assert public <= set(vars(forward))


@settings(max_examples=30, deadline=None)
@given(layout=LAYOUTS, order=st.permutations(range(4)), encodes=st.booleans())
def test_filters_stack_in_any_order_and_leave_the_content_alone(layout, order, encodes):
    inner = MemorySource(layout)
    wraps = [
        lambda s: ThrottledSource(s, lambda _: None), RetryingSource, lambda s: MeteredSource(s, Meter()), CachedSource,
    ]  # fmt: skip
    source: BlockSource = inner
    for number in order:
        source = wraps[number](source)
    target = MemorySink(inner.size, encodes=encodes)
    copy(source, ThrottledSink(MeteredSink(target, Meter()), lambda _: None))
    assert bytes(target.content) == inner.content


@settings(max_examples=40, deadline=None)
@given(layout=LAYOUTS, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_window_is_the_part_of_the_disk_it_names(layout, low, high):
    inner = MemorySource(layout)
    start, end = int(inner.size * min(low, high)), int(inner.size * max(low, high))
    window = WindowSource(inner, start, end - start)
    target = MemorySink(window.size, unit=1)
    copy(window, target)
    assert bytes(target.content) == inner.content[start:end]


def test_nothing_outside_a_window_can_be_reached():
    inner = MemorySource([(1000, DATA, 1)])
    window = WindowSource(inner, 100, 100)
    for offset, length in ((-1, 1), (0, 101), (100, 1)):
        with pytest.raises(OutOfRange):
            window.readinto(offset, memoryview(bytearray(length)))
    with pytest.raises(OutOfRange):
        list(window.extents(0, 101))
    with pytest.raises(OutOfRange):
        WindowSource(inner, 500, 501)


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@given(pieces=st.lists(st.integers(1, 5000), min_size=20, max_size=60))
def test_a_bucket_keeps_the_rate_over_time_and_allows_one_burst(pieces):
    fake = FakeTime()
    bucket = TokenBucket(1000, burst=2000, clock=fake.clock, sleep=fake.sleep)
    for piece in pieces:
        bucket(piece)
    assert fake.now == pytest.approx(max(0, sum(pieces) - 2000) / 1000, abs=0.001)


def test_a_changed_rate_takes_effect_with_the_next_piece():
    fake = FakeTime()
    bucket = TokenBucket(100, burst=1, clock=fake.clock, sleep=fake.sleep)
    bucket(101)
    bucket.set_rate(1000)
    bucket(100)
    assert fake.slept == pytest.approx([1.0, 0.1])


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(InvalidArgument):
        TokenBucket(0)


def test_file_ranges_and_encoded_pieces_pay_as_reads_and_writes_do():
    paid = []
    inner = FileSource([(MIB, DATA, 1)], 0, cut=MIB // 2)
    source = ThrottledSource(inner, paid.append)
    assert sum(r.length for r in source.file_ranges(0, MIB)) == sum(paid) == MIB
    assert ThrottledSource(MemorySource([(MIB, DATA, 1)]), paid.append).file_ranges(0, MIB) is None
    sink = ThrottledSink(MemorySink(MIB, encodes=True), paid.append)
    paid.clear()
    sink.write_encoded(0, sink.encode(0, b"x" * 512))
    assert paid == [512]
    assert not sink.write_file_range(512, FileRange(0, 0, 512))
    assert paid == [512]


def failing(times: int, error: Exception):
    left = [times]

    def on_read(offset, length):
        if left[0]:
            left[0] -= 1
            raise error

    return on_read


def test_reads_that_fail_for_a_passing_reason_are_repeated_with_growing_pauses():
    fake = FakeTime()
    inner = MemorySource([(512, DATA, 1)], on_read=failing(4, Unavailable("gone")))
    source = RetryingSource(inner, sleep=fake.sleep, jitter=lambda: 1.0)
    buffer = bytearray(512)
    source.readinto(0, memoryview(buffer))
    assert bytes(buffer) == inner.content
    assert fake.slept == pytest.approx([0.1, 0.2, 0.4, 0.8])


def test_the_last_error_is_raised_as_it_is_and_a_wait_the_peer_asked_for_is_kept():
    fake = FakeTime()
    error = Unavailable("busy", retry_after_s=3.0)
    source = RetryingSource(MemorySource([(512, DATA, 1)], on_read=failing(9, error)), attempts=3, sleep=fake.sleep)
    with pytest.raises(Unavailable) as caught:
        source.readinto(0, memoryview(bytearray(512)))
    assert caught.value is error
    assert fake.slept == [3.0, 3.0]


def test_corrupt_data_is_not_read_again():
    inner = MemorySource([(512, DATA, 1)], on_read=failing(1, DataLoss("checksum")))
    with pytest.raises(DataLoss):
        RetryingSource(inner).readinto(0, memoryview(bytearray(512)))
    assert inner.reads == 1


def test_extents_go_on_where_the_listing_broke_off():
    class Flaky(MemorySource):
        broken = 0

        def extents(self, offset=0, length=None):
            for number, extent in enumerate(super().extents(offset, length)):
                if number == 1 and self.broken < 3:
                    self.broken += 1
                    raise Unavailable("listing interrupted")
                yield extent

    inner = Flaky([(512, DATA, 1), (512, ZERO, 0), (512, DATA, 2), (512, ZERO, 0)])
    fake = FakeTime()
    assert list(RetryingSource(inner, attempts=2, sleep=fake.sleep).extents()) == inner.parts
    assert inner.broken == 3


def test_a_meter_counts_what_went_through():
    times = iter(range(1000))
    meter = Meter(clock=lambda: float(next(times)))
    target = MemorySink(3 * MIB)
    copy(MemorySource([(MIB, DATA, 1), (2 * MIB, ZERO, 0)]), MeteredSink(target, meter))
    assert (meter.calls, meter.bytes, meter.zero_bytes, meter.seconds) == (1, MIB, 2 * MIB, 1.0)


def test_small_reads_of_one_unit_reach_the_source_once_and_the_oldest_unit_goes_first():
    inner = MemorySource([(400_000, DATA, 1)], unit=65536)
    source = CachedSource(inner, capacity=2 * 65536)

    def read(offset: int) -> bytes:
        buffer = bytearray(100)
        source.readinto(offset, memoryview(buffer))
        return bytes(buffer)

    for offset in (0, 100, 65400, 200, 131072, 65536):
        assert read(offset) == inner.content[offset : offset + 100]
    assert inner.reads == 3
    read(0)
    assert inner.reads == 4


def test_a_cached_read_past_the_end_is_refused():
    with pytest.raises(OutOfRange):
        CachedSource(MemorySource([(1000, DATA, 1)])).readinto(999, memoryview(bytearray(2)))

"""The stand-ins for disks and for a runner do what a test relies on."""

import threading

import hypersdk.testing
import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.pipeline import copy
from hypersdk.errors import Cancelled, DataLoss, NotFound, OutOfRange, ResourceExhausted
from hypersdk.testing import FaultySource, Killed, LocalTaskContext, MemorySink, PatternSource
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20


@given(
    size=st.integers(0, 300_000),
    ranges=st.lists(st.tuples(st.integers(0, 320_000), st.integers(1, 90_000)), max_size=6),
    at=st.integers(0, 300_000),
    length=st.integers(0, 70_000),
)
@settings(max_examples=80, deadline=None)
def test_a_pattern_is_the_same_however_it_is_read(size, ranges, at, length):
    source = PatternSource(size, ranges)
    content = source.content()
    at, length = min(at, size), min(length, size - min(at, size))
    buffer = bytearray(length)
    source.readinto(at, memoryview(buffer))
    assert bytes(buffer) == content[at : at + length]
    covered = at
    for extent in source.extents(at, length):
        assert extent.offset == covered
        if extent.kind == ExtentKind.ZERO:
            assert not any(content[extent.offset : extent.end])
        covered = extent.end
    assert covered == at + length


def test_reading_past_the_end_of_a_pattern_is_out_of_range():
    with pytest.raises(OutOfRange):
        PatternSource(10).readinto(5, memoryview(bytearray(6)))


def test_a_faulty_source_fails_as_often_as_told():
    failure = DataLoss("bad sector")
    source = FaultySource(PatternSource(MIB), 1000, failure, times=1)
    with pytest.raises(DataLoss):
        source.readinto(0, memoryview(bytearray(4096)))
    source.readinto(0, memoryview(bytearray(4096)))
    assert source.size == MIB


def test_a_copy_into_memory_is_complete():
    source, sink = PatternSource(3 * MIB, [(0, 70_000), (2 * MIB, MIB)]), MemorySink(3 * MIB)
    copy(source, sink)
    assert bytes(sink.data) == source.content()
    assert sink.state == "finished"


def test_a_memory_sink_refuses_what_the_contract_forbids():
    sink = MemorySink(MIB, granularity=4096)
    sink.write(8192, bytes(4096))
    with pytest.raises(AssertionError, match="comes after"):
        sink.write(0, bytes(4096))
    with pytest.raises(AssertionError, match="aligned"):
        sink.write(100_000, bytes(10))
    with pytest.raises(OutOfRange):
        sink.write(MIB, bytes(4096))


def test_a_memory_sink_fails_where_told():
    sink = MemorySink(MIB, fail_at=70_000, failure=ResourceExhausted("full", reason="DISK_FULL"))
    sink.write(0, bytes(65536))
    with pytest.raises(ResourceExhausted):
        sink.write(65536, bytes(65536))


@pytest.fixture
def context(tmp_path):
    return LocalTaskContext({}, tmp_path)


def test_a_kill_keeps_checkpoint_and_resources_for_the_next_attempt(context):
    context.kill_after_checkpoints = 1
    context.acquired("r", "storage/test", {"connection": "connections/c", "upload": "t"})
    with pytest.raises(Killed):
        context.save_checkpoint({"n": 1})
    following = context.next_attempt()
    assert (following.attempt, following.checkpoint) == (2, {"n": 1})
    assert following.outstanding() == {"r": {"connection": "connections/c", "upload": "t"}}
    following.released("r")
    assert following.unreleased() == set()


def test_a_cancelled_context_raises_at_the_next_check(context):
    context.check()
    context.cancel()
    with pytest.raises(Cancelled):
        context.check()


def test_a_paused_context_waits_until_it_is_resumed(context):
    context.pause()
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (context.check(), passed.set()))
    thread.start()
    assert not passed.is_set()
    context.resume()
    thread.join(10)
    assert passed.is_set()


def test_a_checkpoint_must_be_json(context):
    with pytest.raises(TypeError):
        context.save_checkpoint({"bytes": b"no"})


def test_connections_that_were_not_given_are_not_granted(context):
    for ask in (context.provider, context.storage, context.component):
        with pytest.raises(NotFound) as caught:
            ask("connections/other")
        assert caught.value.reason == "CONNECTION_NOT_GRANTED"


def test_every_advertised_name_can_be_imported():
    for name in dir(hypersdk.testing):
        assert getattr(hypersdk.testing, name) is not None
    with pytest.raises(AttributeError):
        hypersdk.testing.nothing_of_this_name  # noqa: B018

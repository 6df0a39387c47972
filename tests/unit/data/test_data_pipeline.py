"""The pipeline copies any disk into any sink, and fails, stops and resumes without losing a byte."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
import threading

import pytest
from hypersdk.data import pipeline
from hypersdk.data.digest import CHUNK_BYTES, ContentDigest
from hypersdk.data.extent import Extent, ExtentKind
from hypersdk.data.pipeline import CopyHooks, CopyOptions, copy
from hypersdk.data.source import BlockSource
from hypersdk.errors import (
    Cancelled,
    DataLoss,
    HyperError,
    InvalidArgument,
    MalformedImage,
    ResourceExhausted,
    Unavailable,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.data.disks import LAYOUTS, UNITS, FileSource, MemorySink, MemorySource, full_disk_after

DATA, ZERO = ExtentKind.DATA, ExtentKind.ZERO
MIB = 1 << 20


def sink_size(source: MemorySource, unit: int) -> int:
    return -(-source.size // unit) * unit


@settings(max_examples=80, deadline=None)
@given(
    layout=LAYOUTS, source_unit=UNITS, sink_unit=UNITS, piece=st.sampled_from([1, 4096, 65536, MIB]),
    threads=st.integers(1, 3), encodes=st.booleans(), detect=st.booleans(), round_up=st.booleans(),
    read_ahead=st.integers(0, 5),
)  # fmt: skip
def test_any_extents_through_any_granularity_arrive_byte_for_byte(
    layout, source_unit, sink_unit, piece, threads, encodes, detect, round_up, read_ahead
):
    source = MemorySource(layout, unit=source_unit)
    piece = max(piece, source.size // 64)  # keeps the number of pieces, not their kind, within bounds
    sink = MemorySink(sink_size(source, sink_unit) if round_up else source.size, unit=sink_unit, encodes=encodes)
    sink.at = 0
    digest = ContentDigest(source.size)
    options = CopyOptions(threads=threads, piece_bytes=piece, detect_zeros=detect, read_ahead=read_ahead)
    before = threading.active_count()
    result = copy(source, sink, options=options, hooks=CopyHooks(digest=digest))
    assert bytes(sink.content[: source.size]) == source.content
    assert not any(sink.content[source.size :])
    assert sink.finished
    assert result.bytes_written == sink.written
    assert digest.hexdigest() == whole_digest(source.content)
    assert threading.active_count() == before


def outcome(call) -> HyperError | None:
    try:
        call()
    except HyperError as exc:
        return exc
    return None


def whole_digest(content: bytes) -> str:
    digest = ContentDigest(len(content))
    digest.update(0, content)
    return digest.hexdigest()


@settings(max_examples=40, deadline=None)
@given(
    layout=LAYOUTS, sink_unit=UNITS, cut=st.sampled_from([512, 65536, MIB]), takes=st.booleans(), detect=st.booleans()
)  # fmt: skip
def test_data_in_plain_files_goes_by_file_range_or_falls_back_to_memory(layout, sink_unit, cut, takes, detect):
    with tempfile.TemporaryFile() as file:
        source = FileSource(layout, file.fileno(), cut=cut)
        file.write(source.content)
        file.flush()
        sink = MemorySink(source.size, unit=sink_unit, takes_files=takes)
        result = copy(source, sink, options=CopyOptions(detect_zeros=detect, piece_bytes=65536))
    assert bytes(sink.content) == source.content
    assert result.bytes_written == sink.written + sink.file_bytes
    assert takes or sink.file_bytes == 0


def test_a_sink_that_refuses_file_ranges_is_not_asked_for_each_piece():
    class Refusing(MemorySink):
        asked = 0

        def write_file_range(self, offset, source):
            self.asked += 1
            return False

    with tempfile.TemporaryFile() as file:
        source = FileSource([(16 * MIB, DATA, 7)], file.fileno(), cut=64 * MIB)
        file.write(source.content)
        file.flush()
        sink = Refusing(source.size)
        copy(source, sink, options=CopyOptions(piece_bytes=65536))
    assert bytes(sink.content) == source.content
    assert sink.asked == 1


def test_a_file_range_of_zeros_is_left_out_but_data_behind_a_zero_head_is_not():
    with tempfile.TemporaryFile() as file:
        source = FileSource([(MIB, DATA, 0), (MIB, DATA, 9)], file.fileno(), unit=4096, cut=64 * MIB)
        source.content = bytes(MIB) + bytes(60000) + b"x" + source.content[MIB + 60001 :]
        file.write(source.content)
        file.flush()
        sink = MemorySink(source.size, unit=4096, takes_files=True)
        copy(source, sink)
    assert bytes(sink.content) == source.content
    assert sink.file_bytes == MIB


class Petabyte(BlockSource):
    """16 TiB with data in three places; reading anything else fails the test."""

    size = 16 << 40
    data = (0, 5 << 40, (16 << 40) - MIB)

    def extents(self, offset=0, length=None):
        at = offset
        for start in self.data:
            if start > at:
                yield Extent(at, start - at, ZERO)
            yield Extent(start, MIB, DATA)
            at = start + MIB

    def readinto(self, offset, buffer):
        assert offset in self.data
        buffer[:] = b"\x01" * len(buffer)


def test_cost_and_memory_follow_the_data_and_not_the_virtual_size():
    calls = []

    class Sink(MemorySink):
        size = Petabyte.size

        def write(self, offset, data):
            calls.append((offset, len(data)))

        def zero(self, offset, length):
            calls.append((offset, length))

        def finish(self):
            return {}

    result = copy(Petabyte(), Sink(0), hooks=CopyHooks(digest=ContentDigest(Petabyte.size)))
    assert result.bytes_read == 3 * MIB
    assert len(calls) == 5


@settings(max_examples=40, deadline=None)
@given(layout=LAYOUTS, fail_at=st.integers(0, 12), threads=st.integers(1, 3))
def test_a_source_that_fails_stops_the_copy_with_its_own_error(layout, fail_at, threads):
    seen = []

    def on_read(offset, length):
        seen.append(offset)
        if len(seen) > fail_at:
            raise MalformedImage("cluster 7 is impossible", structure="cluster 7")

    source = MemorySource(layout, on_read=on_read)
    sink = MemorySink(source.size)
    before = threading.active_count()
    failure = outcome(lambda: copy(source, sink, options=CopyOptions(threads=threads, piece_bytes=65536)))
    assert isinstance(failure, MalformedImage) == (len(seen) > fail_at)
    assert sink.finished == (failure is None)
    assert len(seen) <= fail_at + 1 + 2 * threads + 2 or failure is None
    assert bytes(sink.content[: sink.at]) == source.content[: sink.at]
    assert threading.active_count() == before


def test_a_failure_far_ahead_is_raised_before_the_pieces_in_front_of_it_are_written():
    failed = threading.Event()

    def on_read(offset, length):
        if offset == 0:
            assert failed.wait(20)
        if offset == 65536:
            failed.set()
            raise Unavailable("the host went away")

    source = MemorySource([(MIB, DATA, 1)], on_read=on_read)
    sink = MemorySink(source.size)
    with pytest.raises(Unavailable, match="went away"):
        copy(source, sink, options=CopyOptions(threads=2, piece_bytes=65536))
    assert source.reads <= 3


def test_an_operating_system_error_of_the_source_becomes_one_of_the_tree():
    def on_read(offset, length):
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DataLoss, match="reading the source at offset 0"):
        copy(MemorySource([(4096, DATA, 1)], on_read=on_read), MemorySink(4096))


@settings(max_examples=30, deadline=None)
@given(layout=LAYOUTS, limit=st.integers(0, 3 * MIB), encodes=st.booleans())
def test_a_full_medium_is_resource_exhausted_and_never_finished(layout, limit, encodes):
    source = MemorySource(layout)
    sink = MemorySink(source.size, encodes=encodes, on_write=full_disk_after(limit))
    failure = outcome(lambda: copy(source, sink, options=CopyOptions(piece_bytes=65536)))
    assert sink.finished == (failure is None)
    if failure is None:
        assert bytes(sink.content) == source.content
    else:
        assert (type(failure), failure.reason, failure.retryable) == (ResourceExhausted, "DISK_FULL", True)


@settings(max_examples=60, deadline=None)
@given(
    layout=LAYOUTS, sink_unit=UNITS, die_after=st.integers(0, 20), every=st.integers(1, 400_000), chunk=st.booleans()
)  # fmt: skip
def test_a_copy_killed_anywhere_and_resumed_gives_the_same_bytes_and_digest(layout, sink_unit, die_after, every, chunk):
    """The sink keeps what it held at the checkpoint; all written later is dropped, as after a power cut."""
    source = MemorySource(layout)
    saved = {"offset": 0, "sink": {"at": 0, "content": b""}, "digest": None}
    options = CopyOptions(piece_bytes=65536, checkpoint_bytes=every, checkpoint_seconds=0, threads=2)
    for attempt in range(2):
        digest = ContentDigest(source.size, saved["digest"]) if chunk else None

        def save(offset, state, digest=digest):
            assert state["at"] == offset
            saved.update(offset=offset, sink=state, digest=digest.state() if digest else None)

        calls = []

        def check(calls=calls, dies=attempt == 0):
            calls.append(1)
            if dies and len(calls) > die_after:
                raise Cancelled("killed")

        sink = MemorySink(source.size, unit=sink_unit, content=saved["sink"]["content"])
        hooks = CopyHooks(checkpoint=save, check=check, digest=digest)
        resumed = dataclasses.replace(options, resume_offset=saved["offset"])
        try:
            copy(source, sink, options=resumed, hooks=hooks)
        except Cancelled:
            assert attempt == 0
            assert not sink.finished
            continue
        break
    assert sink.finished
    assert bytes(sink.content) == source.content
    if digest is not None:
        assert digest.hexdigest() == whole_digest(source.content)


def test_resume_reads_only_what_is_left_and_the_digest_chunk_that_was_open():
    source = MemorySource([(3 * CHUNK_BYTES, DATA, 3)])
    digest = ContentDigest(source.size)
    digest.update(0, source.content[: CHUNK_BYTES + MIB])
    again = ContentDigest(source.size, digest.state())
    resumed_at = CHUNK_BYTES + MIB
    sink = MemorySink(source.size, content=source.content[:resumed_at])
    result = copy(source, sink, options=CopyOptions(resume_offset=resumed_at), hooks=CopyHooks(digest=again))
    assert result.bytes_written == source.size - resumed_at
    assert result.bytes_read == source.size - CHUNK_BYTES
    assert again.hexdigest() == whole_digest(source.content)


def test_a_resume_offset_inside_a_unit_of_the_sink_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        copy(MemorySource([(8192, DATA, 1)]), MemorySink(8192, unit=4096), options=CopyOptions(resume_offset=512))
    assert caught.value.reason == "RESUME_OFFSET_INVALID"


def test_a_sink_smaller_than_the_source_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        copy(MemorySource([(8192, DATA, 1)]), MemorySink(4096))
    assert caught.value.reason == "TARGET_TOO_SMALL"


def test_pieces_in_flight_never_exceed_the_read_ahead():
    reading = [0]
    peak = [0]

    def on_read(offset, length):
        reading[0] += 1
        peak[0] = max(peak[0], reading[0])

    def on_write(offset):
        reading[0] -= 1

    source = MemorySource([(8 * MIB, DATA, 5)], on_read=on_read)
    options = CopyOptions(piece_bytes=65536, read_ahead=3, threads=4)
    copy(source, MemorySink(source.size, on_write=on_write), options=options)
    assert peak[0] <= 3


def test_huge_granularities_do_not_make_pieces_that_exhaust_memory():
    longest = [0]

    def on_read(offset, length):
        longest[0] = max(longest[0], length)

    source = MemorySource([(20 * MIB, DATA, 5)], unit=256 * MIB, on_read=on_read)
    sink = MemorySink(source.size)
    copy(source, sink)
    assert bytes(sink.content) == source.content
    assert longest[0] <= 8 * MIB


def test_progress_is_thinned_to_ten_a_second_and_always_told_at_the_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: now[0])

    def on_write(offset):
        now[0] += 0.01

    told = []
    source = MemorySource([(100 * 4096, DATA, 5)], unit=1)
    options = CopyOptions(piece_bytes=4096, threads=1)
    copy(source, MemorySink(source.size, on_write=on_write), options=options, hooks=CopyHooks(progress=told.append))
    assert 9 <= len(told) <= 11
    assert told[-1].offset == told[-1].bytes_total == told[-1].bytes_written == source.size
    assert [p.offset for p in told] == sorted(p.offset for p in told)


def test_checkpoints_keep_their_distance_in_bytes_and_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pipeline.time, "monotonic", lambda: now[0])

    def on_write(offset):
        now[0] += 1.0

    saved = []
    source = MemorySource([(100 * 4096, DATA, 5)], unit=1)
    options = CopyOptions(piece_bytes=4096, checkpoint_bytes=4096 * 2, checkpoint_seconds=5.0)
    hooks = CopyHooks(checkpoint=lambda offset, _: saved.append(offset // 4096))
    copy(source, MemorySink(source.size, on_write=on_write), options=options, hooks=hooks)
    assert saved == list(range(5, 100, 5))


def test_throttle_is_told_of_every_moved_byte_and_of_no_zeros():
    moved = []
    source = MemorySource([(MIB, DATA, 5), (8 * MIB, ZERO, 0), (100, DATA, 5)])
    copy(source, MemorySink(source.size), hooks=CopyHooks(throttle=moved.append))
    assert sum(moved) == MIB + 100


def test_an_exception_of_a_hook_passes_unchanged_and_leaves_no_thread():
    class Stop(BaseException):
        pass

    def check():
        raise Stop

    before = threading.active_count()
    with pytest.raises(Stop):
        copy(MemorySource([(MIB, DATA, 1)]), MemorySink(MIB), hooks=CopyHooks(check=check))
    assert threading.active_count() == before


def test_no_thread_outlives_a_failed_copy_even_while_its_traceback_is_kept():
    def on_write(offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = threading.active_count()
    source = MemorySource([(MIB, DATA, 1)])
    try:
        copy(source, MemorySink(MIB, on_write=on_write), options=CopyOptions(piece_bytes=4096))
    except ResourceExhausted as exc:
        kept = exc.__traceback__
        alive = threading.active_count()
    assert kept is not None
    assert alive == before


def test_a_file_that_is_shorter_than_its_ranges_is_reported_and_not_padded(tmp_path):
    from hypersdk.data.filecopy import copy_range

    out = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)

    class Sink(MemorySink):
        def write_file_range(self, offset, source):
            copy_range(source.fd, source.file_offset, out, offset, source.length)
            return True

    with tempfile.TemporaryFile() as file:
        source = FileSource([(MIB, DATA, 1)], file.fileno(), cut=64 * MIB)
        file.write(source.content[:-1])
        file.flush()
        with pytest.raises(MalformedImage) as caught:
            copy(source, Sink(source.size))
    os.close(out)
    assert caught.value.reason == "IMAGE_TRUNCATED"

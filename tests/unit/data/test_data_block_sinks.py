"""What flat block tables have in common: runs of a table, sources made of runs, appended blocks, flat disks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypersdk.data.appendsink import AppendSink, BlockTable
from hypersdk.data.blockruns import ABSENT, ZEROED, BlockRuns, Run, RunKind
from hypersdk.data.extent import Extent, ExtentKind, FileRange
from hypersdk.data.flatsink import FlatSink, resume_flat
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.mappedsource import MappedSource
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, OutOfRange
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK = 8192
START = 4096
PER_TEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Blocks(AppendSink):
    """A format of ours: a table of `<u4` at 0, `lead` bytes of 'L' in front of each block."""

    def __init__(self, file: ImageFile, size: int, lead: int = 0) -> None:
        table = BlockTable(file, 0, -(-size // BLOCK), "<u4")
        super().__init__(file, size, table, block=BLOCK, lead=lead, start=START)
        self.table = table
        self.sealed: list[bool] = []

    def _entries(self, number, count):
        return np.arange(number, number + count, dtype=np.int64)

    def _surround(self, number, count):
        for block in range(number, number + count):
            self._file.pwrite(START + block * (self._lead + BLOCK), b"L" * self._lead)

    def _seal(self, *, complete):
        self.sealed.append(complete)


class Flat(FlatSink):
    def _seal(self):
        self._file.truncate(self._start + self._size)


class Runs(MappedSource):
    """Blocks of a file by a list of positions."""

    def __init__(self, file, size, positions, **options):
        super().__init__(file, size, **options)
        self.map = BlockRuns(lambda first, count: np.array(positions[first : first + count], np.int64), BLOCK)

    def runs(self, offset: int, end: int) -> Iterator[Run]:
        return self.map.runs(offset, end)


@given(
    entries=st.lists(st.sampled_from([ABSENT, ZEROED, *range(0, 6 * BLOCK, BLOCK)]), min_size=1, max_size=30),
    data=st.data(),
)
def test_runs_cover_any_range_and_point_where_each_byte_lies(entries, data):
    size = len(entries) * BLOCK
    offset = data.draw(st.integers(0, size))
    end = data.draw(st.integers(offset, size))
    blocks = BlockRuns(lambda first, count: np.array(entries[first : first + count], np.int64), BLOCK)
    at = offset
    for run in blocks.runs(offset, end):
        assert run.offset == at
        assert run.length > 0
        for byte in {run.offset, run.offset + run.length - 1}:
            entry = entries[byte // BLOCK]
            if run.kind is RunKind.DATA:
                assert run.position + byte - run.offset == entry + byte % BLOCK
            else:
                assert entry == {RunKind.BELOW: ABSENT, RunKind.ZERO: ZEROED}[run.kind]
        at += run.length
    assert at == end


@PER_TEST
@given(
    lead=st.sampled_from([0, 512]),
    pieces=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12), st.integers(1, 255)), max_size=8),
    by_range=st.booleans(),
)
def test_appended_blocks_hold_what_was_written_in_the_order_of_the_disk(tmp_path_factory, lead, pieces, by_range):
    folder = tmp_path_factory.mktemp("blocks")
    size = 73 * 4096
    content = bytearray(size)
    with ImageFile.create(folder / "a") as file, (folder / "raw").open("wb+") as raw:
        sink = Blocks(file, size, lead)
        sink.table.clear()
        at = 0
        for gap, units, byte in pieces:
            offset = at + gap * 4096
            length = min(units * 4096, size - offset)
            if length <= 0:
                break
            content[offset : offset + length] = bytes([byte]) * length
            raw.seek(0)
            raw.write(content[offset : offset + length])
            raw.flush()
            if by_range:
                assert sink.write_file_range(offset, FileRange(raw.fileno(), 0, length))
            else:
                sink.write(offset, content[offset : offset + length])
            at = offset + length
        facts = sink.finish()
        numbers = np.frombuffer(file.pread(0, -(-size // BLOCK) * 4), "<u4").tolist()
        stored = [n for n in numbers if n != 0xFFFFFFFF]
        assert stored == list(range(len(stored)))
        assert facts["allocated_bytes"] == len(stored) * BLOCK
        assert file.size == START + len(stored) * (lead + BLOCK)
        for block, number in enumerate(numbers):
            want = bytes(content[block * BLOCK : (block + 1) * BLOCK]).ljust(BLOCK, b"\0")
            if number == 0xFFFFFFFF:
                assert not any(want)
                continue
            start = START + number * (lead + BLOCK)
            assert file.pread(start, lead) == b"L" * lead
            assert file.pread(start + lead, BLOCK) == want
        assert sink.sealed == [True]


def test_a_sink_that_is_finished_or_aborted_takes_nothing_more(tmp_path):
    for number, end in enumerate((Blocks.finish, Blocks.abort)):
        with ImageFile.create(tmp_path / str(number)) as file:
            sink = Blocks(file, BLOCK)
            sink.table.clear()
            end(sink)
            with pytest.raises(FailedPrecondition) as caught:
                sink.write(0, b"x" * 4096)
            assert caught.value.reason == "SINK_CLOSED"


def test_a_source_of_runs_reads_its_file_its_parent_and_zeros(tmp_path):
    (tmp_path / "below").write_bytes(b"p" * (2 * BLOCK + 100))
    (tmp_path / "a").write_bytes(b"d" * (2 * BLOCK))
    below = Runs(ImageFile.open(tmp_path / "below"), 2 * BLOCK + 100, [0, BLOCK, 2 * BLOCK])
    with Runs(ImageFile.open(tmp_path / "a"), 4 * BLOCK, [ABSENT, BLOCK, ABSENT, ZEROED], parent=below) as source:
        buffer = bytearray(b"\xff" * (4 * BLOCK))
        source.readinto(0, memoryview(buffer))
        assert buffer == b"p" * BLOCK + b"d" * BLOCK + b"p" * 100 + bytes(2 * BLOCK - 100)
        data = 2 * BLOCK + 100
        assert list(source.extents()) == [
            Extent(0, data, ExtentKind.DATA), Extent(data, 4 * BLOCK - data, ExtentKind.ZERO)
        ]  # fmt: skip
        ranges = source.file_ranges(0, 2 * BLOCK)
        assert ranges is not None
        assert [(r.file_offset, r.length) for r in ranges] == [(0, BLOCK), (BLOCK, BLOCK)]
        assert source.file_ranges(2 * BLOCK, BLOCK) is None
        with pytest.raises(OutOfRange):
            source.readinto(4 * BLOCK, memoryview(bytearray(1)))


def test_a_flat_disk_lies_at_its_start_and_goes_on_without_what_came_after(tmp_path):
    with ImageFile.create(tmp_path / "a") as file:
        sink = Flat(file, 5 * 4096 + 7, start=100)
        sink.write(0, b"a" * 4096)
        state = sink.checkpoint()
        sink.write(3 * 4096, b"stale" * 800)
        sink.abort()
        end = resume_flat(file, state, size=5 * 4096 + 7, start=100)
        sink = Flat(file, 5 * 4096 + 7, start=100, written_end=end)
        sink.write(5 * 4096, b"end of it"[:7])
        sink.zero(1024, 1024)
        sink.finish()
        content = b"a" * 1024 + bytes(1024) + b"a" * 2048 + bytes(4 * 4096) + b"end of it"[:7]
        assert file.pread(100, file.size - 100) == content


def test_a_flat_checkpoint_of_another_disk_is_refused(tmp_path):
    with ImageFile.create(tmp_path / "a") as file:
        sink = Flat(file, 8192, start=0)
        sink.write(0, b"a" * 4096)
        state = sink.checkpoint()
        for broken in ({}, {**state, "size": 4096}, {**state, "written_end": 9000}, {**state, "written_end": True}):
            with pytest.raises(InvalidArgument):
                resume_flat(file, broken, size=8192, start=0)
        with pytest.raises(InvalidArgument):
            resume_flat(file, {**state, "written_end": 8192}, size=8192, start=0)


def test_a_checkpoint_of_blocks_that_contradicts_itself_is_refused(tmp_path):
    with ImageFile.create(tmp_path / "a") as file:
        sink = Blocks(file, 4 * BLOCK)
        sink.table.clear()
        sink.write(BLOCK, b"x" * 4096)
        state = sink.checkpoint()
        for changes in ({"blocks": 5}, {"last": -2}, {"last": 0}, {"next": 0}, {"next": 5 * BLOCK}, {"lead": 1}):
            with pytest.raises(HyperError) as caught:
                Blocks(file, 4 * BLOCK).restore({**state, **changes})
            assert caught.value.reason == "RESUME_STATE_INVALID"
        Blocks(file, 4 * BLOCK).restore(state)

"""What the writers write, where, and how they go on after a crash."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, MalformedImage, OutOfRange
from hypersdk_format_vpc import VpcFormat
from hypersdk_format_vpc.footer import parse_footer
from hypersdk_format_vpc.layout import MAX_SIZE

BOTH = pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
MIB = 1 << 20


def start(path, size, resume=None, **options):
    file = ImageFile.create(path, resume=resume is not None)
    return VpcFormat().create(file, size, {"force_size": "on", **options}, resume)


def test_consecutive_blocks_are_consecutive_in_the_file_and_pages_stay_whole(tmp_path):
    data = random.Random(3).randbytes(6 * MIB)
    (tmp_path / "a.raw").write_bytes(b"prefix" + data)
    sink = start(tmp_path / "a.vhd", 64 * MIB)
    with (tmp_path / "a.raw").open("rb") as raw:
        assert sink.write_file_range(3 * MIB, FileRange(raw.fileno(), 6, 6 * MIB))
    facts = sink.finish()
    with VpcFormat().open(ImageFile.open(tmp_path / "a.vhd")) as source:
        ranges = list(source.file_ranges(3 * MIB, 6 * MIB))
        assert [r.length for r in ranges] == [MIB, 2 * MIB, 2 * MIB, MIB]
        assert all(r.file_offset % 4096 == 0 for r in ranges)
        assert [b.file_offset - a.file_offset - a.length for a, b in pairwise(ranges)] == [4096] * 3
        buffer = bytearray(6 * MIB)
        source.readinto(3 * MIB, memoryview(buffer))
        assert buffer == data
    assert facts["allocated_bytes"] == 8 * MIB
    assert facts["file_size"] == (tmp_path / "a.vhd").stat().st_size


def test_small_islands_cost_pages_not_blocks(tmp_path):
    sink = start(tmp_path / "a.vhd", 64 * MIB)
    for at in range(0, 64 * MIB, 2 * MIB):
        sink.write(at, b"x" * 4096)
    sink.finish()
    assert (tmp_path / "a.vhd").stat().st_blocks * 512 < MIB


def test_both_footers_are_the_same_and_say_who_made_them(tmp_path):
    sink = start(tmp_path / "a.vhd", 5 * MIB)
    sink.finish()
    raw = (tmp_path / "a.vhd").read_bytes()
    assert raw[:512] == raw[-512:]
    footer = parse_footer(raw[:512], "a.vhd", 0)
    assert (footer.creator, footer.current_size, footer.kind) == (b"hsdk", 5 * MIB, 3)
    assert footer.uuid.version == 4


@BOTH
@pytest.mark.parametrize("stop", [0, 1, 3, 4, 9])
def test_a_dead_writers_file_is_continued_from_its_checkpoint(tmp_path, read, subformat, stop):
    """After it died it had written on, other bytes than its successor will: none of them may be left."""
    path = tmp_path / "a.vhd"
    data = random.Random(1).randbytes(10 * MIB)
    sink = start(path, 10 * MIB, subformat=subformat)
    for at in range(stop):
        sink.write(at * MIB, data[at * MIB : (at + 1) * MIB])
    state = sink.checkpoint()
    sink.write(stop * MIB, b"\xee" * MIB)
    sink.checkpoint()
    sink.abort()
    again = start(path, 10 * MIB, resume=state, subformat=subformat)
    again.write(9 * MIB, data[9 * MIB :])
    again.finish()
    assert read(path) == data[: stop * MIB] + bytes((9 - stop) * MIB) + data[9 * MIB :]
    report = VpcFormat().check(ImageFile.open(path))
    assert (report.corruptions, report.leaks) == (0, 0), report.messages


@BOTH
def test_a_checkpoint_of_another_disk_or_of_nonsense_is_refused(tmp_path, subformat):
    sink = start(tmp_path / "a.vhd", 4 * MIB, subformat=subformat)
    sink.write(0, b"x" * MIB)
    state = sink.checkpoint()
    sink.abort()
    broken = [{}, {**state, "size": 1}, {**state, "layout": "x"}]
    broken += [{**state, key: value} for key in state for value in (-2, 1 << 70, None, "1", True, 1.5)]
    for one in broken:
        if one == state:
            continue
        with pytest.raises(HyperError):
            start(tmp_path / "a.vhd", 4 * MIB, resume=one, subformat=subformat)
    with pytest.raises(HyperError):
        start(tmp_path / "a.vhd", 8 * MIB, resume=state, subformat=subformat)


def test_a_dynamic_image_is_written_in_ascending_order_and_inside_the_disk(tmp_path):
    sink = start(tmp_path / "a.vhd", 4 * MIB)
    sink.write(MIB, b"x" * 4096)
    with pytest.raises(FailedPrecondition, match="ascending"):
        sink.write(0, b"x" * 4096)
    with pytest.raises(OutOfRange):
        sink.write(4 * MIB, b"x" * 4096)
    sink.finish()
    with pytest.raises(FailedPrecondition):
        sink.write(2 * MIB, b"x" * 4096)


def test_a_fixed_image_may_be_written_in_any_order_and_zeroed_again(tmp_path, read):
    sink = start(tmp_path / "a.vhd", 4 * MIB, subformat="fixed")
    sink.write(2 * MIB, b"b" * MIB)
    sink.write(0, b"a" * MIB)
    sink.zero(2 * MIB, 4096)
    sink.finish()
    assert read(tmp_path / "a.vhd") == b"a" * MIB + bytes(MIB + 4096) + b"b" * (MIB - 4096) + bytes(MIB)


def test_an_unfinished_fixed_image_is_no_image(tmp_path):
    sink = start(tmp_path / "a.vhd", 4 * MIB, subformat="fixed")
    sink.write(0, b"x" * MIB)
    sink.abort()
    with pytest.raises(MalformedImage):
        VpcFormat().open(ImageFile.open(tmp_path / "a.vhd"))


@pytest.mark.parametrize("size", [0, -1, MAX_SIZE + 1])
def test_sizes_that_no_vhd_has_are_refused(tmp_path, size):
    with pytest.raises(InvalidArgument) as caught:
        start(tmp_path / "a.vhd", size)
    assert caught.value.reason == "IMAGE_SIZE_INVALID"


@pytest.mark.parametrize("options", [{"subformat": "x"}, {"force_size": "2"}, {"block_size": "3M"}])
def test_impossible_options_are_named(tmp_path, options):
    with pytest.raises(InvalidArgument) as caught:
        start(tmp_path / "a.vhd", MIB, **options)
    assert caught.value.violations[0].field == f"options.{next(iter(options))}"

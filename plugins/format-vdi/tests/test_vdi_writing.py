"""What the writers write, where, and how they go on after a crash."""

from __future__ import annotations

import random

import pytest
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, HyperError, InvalidArgument, OutOfRange
from hypersdk_format_vdi import VdiFormat

BOTH = pytest.mark.parametrize("static", ["off", "on"])
MIB = 1 << 20


def start(path, size, resume=None, **options):
    return VdiFormat().create(ImageFile.create(path, resume=resume is not None), size, options, resume)


def test_consecutive_data_is_one_range_of_the_file(tmp_path):
    data = random.Random(3).randbytes(6 * MIB)
    (tmp_path / "a.raw").write_bytes(b"prefix" + data)
    sink = start(tmp_path / "a.vdi", 64 * MIB)
    with (tmp_path / "a.raw").open("rb") as raw:
        assert sink.write_file_range(3 * MIB + 4096, FileRange(raw.fileno(), 6, 2 * MIB))
        assert sink.write_file_range(5 * MIB + 4096, FileRange(raw.fileno(), 6 + 2 * MIB, 4 * MIB))
    facts = sink.finish()
    with VdiFormat().open(ImageFile.open(tmp_path / "a.vdi")) as source:
        [one] = source.file_ranges(3 * MIB + 4096, 6 * MIB)
        assert one.length == 6 * MIB
        buffer = bytearray(6 * MIB)
        source.readinto(3 * MIB + 4096, memoryview(buffer))
        assert buffer == data
        assert source.info()["details"]["blocks_allocated"] == 7
    assert facts["allocated_bytes"] == 7 * MIB
    assert facts["file_size"] == (tmp_path / "a.vdi").stat().st_size == 8 * MIB


@BOTH
@pytest.mark.parametrize("stop", [0, 1, 3, 9])
def test_a_dead_writers_file_is_continued_from_its_checkpoint(tmp_path, read, static, stop):
    """After it died it had written on, other bytes than its successor will: none of them may be left."""
    path = tmp_path / "a.vdi"
    data = random.Random(1).randbytes(10 * MIB)
    sink = start(path, 10 * MIB, static=static)
    for at in range(stop):
        sink.write(at * MIB, data[at * MIB : (at + 1) * MIB])
    if stop == 3:
        sink.write(3 * MIB, data[3 * MIB : 3 * MIB + 4096])
    state = sink.checkpoint()
    sink.write(stop * MIB + 8192, b"\xee" * (MIB - 8192))
    sink.checkpoint()
    sink.abort()
    again = start(path, 10 * MIB, resume=state, static=static)
    again.write(9 * MIB, data[9 * MIB :])
    again.finish()
    kept = stop * MIB + (4096 if stop == 3 else 0)
    assert read(path) == data[:kept] + bytes(9 * MIB - kept) + data[9 * MIB :]
    report = VdiFormat().check(ImageFile.open(path))
    assert (report.corruptions, report.leaks) == (0, 0), report.messages


@BOTH
def test_a_checkpoint_of_another_disk_or_of_nonsense_is_refused(tmp_path, static):
    sink = start(tmp_path / "a.vdi", 4 * MIB, static=static)
    sink.write(0, b"x" * MIB)
    state = sink.checkpoint()
    sink.abort()
    broken = [{}, {**state, "size": 1}, {**state, "layout": "x"}]
    broken += [{**state, key: value} for key in state for value in (-2, 1 << 70, None, "1", 1.5)]
    for one in broken:
        if one == state:
            continue
        with pytest.raises(HyperError):
            start(tmp_path / "a.vdi", 4 * MIB, resume=one, static=static)
    for size, other in ((8 * MIB, static), (4 * MIB, "on" if static == "off" else "off")):
        with pytest.raises(HyperError):
            start(tmp_path / "a.vdi", size, resume=state, static=other)


def test_a_dynamic_image_is_written_in_ascending_order_and_inside_the_disk(tmp_path):
    sink = start(tmp_path / "a.vdi", 4 * MIB)
    sink.write(MIB, b"x" * 4096)
    with pytest.raises(FailedPrecondition, match="ascending"):
        sink.write(0, b"x" * 4096)
    with pytest.raises(OutOfRange):
        sink.write(4 * MIB, b"x" * 4096)
    sink.finish()
    with pytest.raises(FailedPrecondition):
        sink.write(2 * MIB, b"x" * 4096)


def test_a_map_of_many_windows_is_complete(tmp_path, read):
    """40 GiB: three windows of the table in memory, the middle one untouched."""
    size = 40 << 30
    sink = start(tmp_path / "a.vdi", size)
    sink.write(0, b"a" * 4096)
    sink.write(size - 4096, b"z" * 4096)
    sink.finish()
    with VdiFormat().open(ImageFile.open(tmp_path / "a.vdi")) as source:
        found = [(e.offset, e.length) for e in source.extents() if e.kind]
        assert found == [(0, MIB), (size - MIB, MIB)]
    assert (tmp_path / "a.vdi").stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("size", [0, -1, (64 << 40) + 1])
def test_sizes_that_no_vdi_has_are_refused(tmp_path, size):
    with pytest.raises(InvalidArgument) as caught:
        start(tmp_path / "a.vdi", size)
    assert caught.value.reason == "IMAGE_SIZE_INVALID"


@pytest.mark.parametrize("options", [{"static": "x"}, {"block_size": "3M"}])
def test_impossible_options_are_named(tmp_path, options):
    with pytest.raises(InvalidArgument) as caught:
        start(tmp_path / "a.vdi", MIB, **options)
    assert caught.value.violations[0].field == f"options.{next(iter(options))}"

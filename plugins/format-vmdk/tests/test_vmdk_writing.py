"""What the writers write: judged by qemu-img, by our own reader, and by the descriptor's text."""

from __future__ import annotations

import os
import random
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import Aborted, FailedPrecondition, HyperError, InvalidArgument, OutOfRange, Unsupported
from hypersdk_format_vmdk import VmdkFormat
from hypersdk_format_vmdk.descriptor import parse_descriptor

BOTH = pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
PIECE = 1 << 20


def write(path, data, options, start=0, sink=None, end=None):
    sink = sink or VmdkFormat().create(ImageFile.create(path), len(data), options)
    for at in range(start, len(data) if end is None else end, PIECE):
        sink.write(at, data[at : at + PIECE])
    return sink


@BOTH
@pytest.mark.peer
@pytest.mark.parametrize("size", [1, 512, 65536, 65537, 70 * (1 << 20) + 512 * 3])
def test_qemu_img_finds_the_image_clean_and_identical(tmp_path, qemu_img, read, sample, subformat, size):
    data = sample(size)
    raw, image = tmp_path / "a.raw", tmp_path / "a.vmdk"
    raw.write_bytes(data)
    facts = write(image, data, {"subformat": subformat}).finish()
    assert facts["file_size"] == image.stat().st_size
    qemu_img("check", image)
    assert "identical" in qemu_img("compare", raw, image)
    assert f"create type: {subformat}" in qemu_img("info", image)
    assert read(image)[:size] == data
    report = VmdkFormat().check(ImageFile.open(image))
    assert (report.corruptions, report.leaks) == (0, 0)


@BOTH
def test_an_empty_disk_costs_no_grain_and_reads_as_zeros(tmp_path, read, subformat):
    image = tmp_path / "a.vmdk"
    sink = write(image, bytes(3 << 20), {"subformat": subformat})
    assert sink.finish()["allocated_bytes"] == 0
    assert read(image) == bytes(3 << 20)


@pytest.mark.peer
def test_file_ranges_are_copied_and_lie_behind_one_another(tmp_path, qemu_img, sample):
    data = random.Random(3).randbytes(5 << 20)
    raw, image = tmp_path / "a.raw", tmp_path / "a.vmdk"
    raw.write_bytes(b"prefix" + data)
    sink = VmdkFormat().create(ImageFile.create(image), len(data) + 512)
    with raw.open("rb") as file:
        assert sink.write_file_range(0, FileRange(file.fileno(), 6, 3 << 20))
        assert sink.write_file_range(3 << 20, FileRange(file.fileno(), 6 + (3 << 20), 2 << 20))
    sink.finish()
    with VmdkFormat().open(ImageFile.open(image)) as source:
        ranges = list(source.file_ranges(0, 5 << 20))
    assert sum(r.length for r in ranges) == 5 << 20
    assert all(a.file_offset + a.length == b.file_offset for a, b in pairwise(ranges))
    (tmp_path / "b.raw").write_bytes(data + bytes(512))
    assert "identical" in qemu_img("compare", tmp_path / "b.raw", image)


def test_encoding_in_threads_gives_the_same_image(tmp_path, read, sample):
    data = sample(48 << 20)
    image = tmp_path / "a.vmdk"
    sink = VmdkFormat().create(ImageFile.create(image), len(data), {"subformat": "streamOptimized"})
    assert sink.encodes
    offsets = range(0, len(data), PIECE)
    with ThreadPoolExecutor(3) as pool:
        pieces = pool.map(lambda at: sink.encode(at, data[at : at + PIECE]), offsets)
        for at, encoded in zip(offsets, pieces, strict=True):
            sink.write_encoded(at, encoded)
    sink.finish()
    assert read(image) == data


def test_a_stream_is_only_ever_appended_to(tmp_path, sample, monkeypatch):
    data = sample(40 << 20)
    file = ImageFile.create(tmp_path / "a.vmdk")
    end = 0
    real = file.pwrite

    def pwrite(offset, piece):
        nonlocal end
        assert offset == end
        end += memoryview(piece).nbytes
        real(offset, piece)

    monkeypatch.setattr(file, "pwrite", pwrite)
    sink = VmdkFormat().create(file, len(data), {"subformat": "streamOptimized"})
    for at in range(0, len(data), PIECE):
        sink.write(at, data[at : at + PIECE])
    sink.finish()
    assert end == file.size


@BOTH
@pytest.mark.parametrize("stop", [0, 1, 17, 33, 69])
def test_a_dead_writers_file_is_continued_from_its_checkpoint(tmp_path, read, sample, subformat, stop):
    data = sample(70 << 20)
    image = tmp_path / "a.vmdk"
    sink = write(image, data, {"subformat": subformat}, end=stop << 20)
    state = sink.checkpoint()
    write(image, data, {}, start=stop << 20, sink=sink, end=min(70, stop + 40) << 20)
    if subformat == "monolithicSparse":
        sink._flush_table()
    sink.abort()
    again = VmdkFormat().create(ImageFile.create(image, resume=True), len(data), {"subformat": subformat}, state)
    other = data[: stop << 20] + bytes(len(data) - (stop << 20) - 512) + data[-512:]
    write(image, other, {}, start=stop << 20, sink=again)
    again.finish()
    assert read(image) == other
    report = VmdkFormat().check(ImageFile.open(image))
    assert (report.corruptions, report.leaks) == (0, 0)


@BOTH
def test_a_checkpoint_of_another_disk_is_not_continued(tmp_path, sample, subformat):
    image = tmp_path / "a.vmdk"
    sink = write(image, sample(2 << 20), {"subformat": subformat}, end=1 << 20)
    state = sink.checkpoint()
    sink.abort()
    file = ImageFile.create(image, resume=True)
    with pytest.raises(Aborted):
        VmdkFormat().create(file, 3 << 20, {"subformat": subformat}, state)
    for broken in ({}, {**state, "position": -1}, {**state, "position": 1 << 60}, {**state, "next_grain": "x"}):
        with pytest.raises(HyperError):
            VmdkFormat().create(file, 2 << 20, {"subformat": subformat}, broken)


@BOTH
def test_writes_out_of_order_range_or_alignment_are_refused(tmp_path, subformat):
    sink = VmdkFormat().create(ImageFile.create(tmp_path / "a.vmdk"), 4 << 20, {"subformat": subformat})
    sink.write(1 << 20, b"x" * PIECE)
    with pytest.raises(FailedPrecondition, match="ascending"):
        sink.write(0, b"x" * PIECE)
    with pytest.raises(OutOfRange):
        sink.write(4 << 20, b"x" * 65536)
    with pytest.raises(InvalidArgument):
        sink.write((2 << 20) + 512, b"x" * 65536)
    sink.finish()
    with pytest.raises(FailedPrecondition):
        sink.write(3 << 20, b"x" * PIECE)


def test_descriptors_carry_what_vmware_and_virtualbox_want(tmp_path):
    path = tmp_path / ".disk.vmdk.partial-hypersdk"
    options = {"adapter_type": "lsilogic", "hwversion": "19", "subformat": "streamOptimized"}
    VmdkFormat().create(ImageFile.create(path), 10 << 30, options).finish()
    text = parse_descriptor(path.read_bytes()[512 : 21 * 512], "disk.vmdk")
    database = text.database
    assert text.extents[0].name == "disk.vmdk"
    assert text.parent_cid == 0xFFFFFFFF
    assert text.cid not in {0, 0xFFFFFFFF, 0xFFFFFFFE}
    assert database["longContentID"].endswith(f"{text.cid:08x}")
    vmware_uuid = r"60 00 C2 9[0-9a-f]( [0-9a-f]{2}){4}-[0-9a-f]{2}( [0-9a-f]{2}){7}"
    assert re.fullmatch(vmware_uuid, database["uuid"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", database["uuid.image"])
    assert (database["adapterType"], database["virtualHWVersion"]) == ("lsilogic", "19")
    assert database["geometry.heads"] == "255"
    assert database["geometry.cylinders"] == str((10 << 30) // 512 // 255 // 63)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nonsense": "1"}, InvalidArgument),
        ({"subformat": "triangular"}, InvalidArgument),
        ({"subformat": "monolithicFlat"}, Unsupported),
        ({"compress": "on", "subformat": "monolithicSparse"}, InvalidArgument),
        ({"adapter_type": "floppy"}, InvalidArgument),
        ({"compat6": "maybe"}, InvalidArgument),
        ({"compat6": "on", "hwversion": "9"}, InvalidArgument),
        ({"hwversion": '4"\nparentCID=1'}, InvalidArgument),
        ({"zeroed_grain": "on", "subformat": "streamOptimized"}, InvalidArgument),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, error):
    file = ImageFile.create(tmp_path / "a.vmdk")
    with pytest.raises(error):
        VmdkFormat().create(file, 1 << 20, options)
    assert file.size == 0


@pytest.mark.parametrize("size", [0, -1, 1 << 60])
def test_impossible_sizes_are_refused(tmp_path, size):
    with pytest.raises(InvalidArgument):
        VmdkFormat().create(ImageFile.create(tmp_path / "a.vmdk"), size)


@BOTH
def test_a_disk_of_16_tib_costs_what_its_data_costs(tmp_path, subformat):
    image, size = tmp_path / "a.vmdk", 16 << 40
    sink = VmdkFormat().create(ImageFile.create(image), size, {"subformat": subformat})
    places = [0, 5 << 40, size - 65536]
    for at in places:
        sink.write(at, b"\x42" * 65536)
    sink.finish()
    assert image.stat().st_blocks * 512 < 12 << 20
    with VmdkFormat().open(ImageFile.open(image)) as source:
        assert [e.offset for e in source.extents() if e.kind == 1] == places
        got = bytearray(131072)
        source.readinto((5 << 40) - 65536, memoryview(got))
        assert bytes(got) == bytes(65536) + b"\x42" * 65536


def test_compatibility_options_reach_the_header_and_the_descriptor(tmp_path):
    image = tmp_path / "a.vmdk"
    VmdkFormat().create(ImageFile.create(image), 1 << 20, {"zeroed_grain": "on", "compat6": "on"}).finish()
    with VmdkFormat().open(ImageFile.open(image)) as source:
        details = source.info()["details"]
    assert struct.unpack_from("<II", image.read_bytes(), 4) == (2, 7)
    assert details["zeroed_grains"]
    assert details["database"]["virtualHWVersion"] == "6"


@BOTH
def test_measure_is_an_upper_bound(tmp_path, subformat):
    raw, image = tmp_path / "a.vmdk", tmp_path / "b.vmdk"
    data = os.urandom(3 << 20) + bytes(40 << 20) + os.urandom(1000)
    write(raw, data, {}).finish()
    with VmdkFormat().open(ImageFile.open(raw)) as source:
        bound = VmdkFormat().measure(source, {"subformat": subformat})
    write(image, data, {"subformat": subformat}).finish()
    assert image.stat().st_size <= bound <= image.stat().st_size * 1.05 + 65536

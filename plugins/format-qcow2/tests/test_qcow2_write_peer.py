"""Images of our writing, judged by qemu-img check and qemu-img compare."""

from __future__ import annotations

import json
import os

import pytest
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile

pytestmark = pytest.mark.peer

OPTIONS = [
    {}, {"compat": "0.10"}, {"compress": "on"}, {"compress": "on", "compat": "0.10"},
    {"compress": "on", "compression_type": "zstd"}, {"refcount_bits": "1"}, {"compress": "on", "refcount_bits": "1"},
    {"compress": "on", "refcount_bits": "2"}, {"refcount_bits": "64", "lazy_refcounts": "on"},
]  # fmt: skip


def assert_accepted(qemu_img, tmp_path, path, data: bytes) -> None:
    report = json.loads(qemu_img("check", "--output=json", path))
    assert report["check-errors"] == 0
    (tmp_path / "wanted.raw").write_bytes(data)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", "wanted.raw", path)


@pytest.mark.parametrize("cluster_size", ["512", "4k", "64k", "2M"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items()) or "default")
def test_every_layout_is_accepted_with_and_without_an_interruption(
    images, qemu_img, tmp_path, cluster_size, options
) -> None:
    options = {**options, "cluster_size": cluster_size}
    size = 33 * (1 << 20) + 1234 if cluster_size == "2M" else 3 * (1 << 20) + 77
    data = images.content(size, 65536, seed=len(options))
    for interrupt in (lambda _: False, lambda offset: offset % (3 << 20) == 1 << 20):
        path = images.write(data, options, interrupt=interrupt)
        assert_accepted(qemu_img, tmp_path, path, data)
        assert images.read(path)[: len(data)] == data


@pytest.mark.parametrize("cluster_size", ["16k", "64k", "2M"])
@pytest.mark.parametrize("compress", ["on", "off"])
def test_extended_l2_is_accepted(images, qemu_img, tmp_path, cluster_size, compress) -> None:
    data = images.content(9 * (1 << 20) + 513, 65536, seed=9)
    options = {"cluster_size": cluster_size, "extended_l2": "on", "compress": compress}
    path = images.write(data, options, interrupt=lambda offset: offset == 4 << 20)
    assert_accepted(qemu_img, tmp_path, path, data)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 65536, 65537])
def test_small_disks_are_accepted_and_rounded_up_to_a_sector(images, qemu_img, tmp_path, size) -> None:
    data = b"x" * size
    path = images.write(data)
    assert_accepted(qemu_img, tmp_path, path, data)
    with images.open(path) as source:
        assert source.size == -(-size // 512) * 512


def test_ranges_of_a_file_arrive_without_passing_through_memory(images, qemu_img, tmp_path) -> None:
    data = images.content(5 * (1 << 20), 65536, seed=5) + b"tail"
    (tmp_path / "source.raw").write_bytes(data)
    with ImageFile.open(tmp_path / "source.raw") as plain, ImageFile.create(tmp_path / "a.qcow2") as file:
        sink = images.format.create(file, len(data))
        if not sink.write_file_range(0, FileRange(plain.fileno(), 0, 1 << 20)):
            pytest.skip("this file system has no copy_file_range")
        assert sink.write_file_range(1 << 20, FileRange(plain.fileno(), 1 << 20, len(data) - (1 << 20)))
        sink.finish()
    assert_accepted(qemu_img, tmp_path, tmp_path / "a.qcow2", data)
    with images.open(tmp_path / "a.qcow2") as source:
        ranges = list(source.file_ranges(0, len(data)))
        assert len(ranges) == 1, "consecutive guest data is contiguous in the file"
        assert os.pread(ranges[0].fd, len(data), ranges[0].file_offset) == data


def test_a_disk_of_16_tib_with_scattered_data_is_accepted(images, qemu_img, tmp_path) -> None:
    path = tmp_path / "big.qcow2"
    with ImageFile.create(path) as file:
        sink = images.format.create(file, 16 << 40)
        for terabyte in range(16):
            sink.write(terabyte << 40, bytes([terabyte + 1]) * 65536)
        sink.finish()
    qemu_img("check", path)
    assert path.stat().st_size < 4 << 20
    with images.open(path) as source:
        data = [(e.offset, e.length) for e in source.extents() if e.kind]
        assert data == [(terabyte << 40, 65536) for terabyte in range(16)]
        buffer = bytearray(2)
        source.readinto((15 << 40) + 65534, memoryview(buffer))
        assert buffer == b"\x10\x10"
    assert images.check(path).corruptions == 0


@pytest.mark.parametrize("extra", [[], ["-o", "cluster_size=4k"], ["-o", "cluster_size=2M,refcount_bits=64"]])
def test_measure_is_what_the_writer_needs_or_more(images, tmp_path, extra) -> None:
    options = dict(pair.split("=") for pair in extra[1].split(",")) if extra else {}
    data = images.content(40 << 20, 1 << 20, seed=6)
    path = images.write(data, options)
    with images.open(path) as source:
        measured = images.format.measure(source, options)
    assert path.stat().st_size <= measured + (2 << 20), "batches of refcount blocks may round up"
    assert measured <= path.stat().st_size

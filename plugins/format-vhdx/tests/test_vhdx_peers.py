"""QEMU's images read by us, ours by QEMU."""

from __future__ import annotations

import json

import pytest
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile

pytestmark = pytest.mark.peer

MIB = 1 << 20
OPTIONS = [
    "subformat=dynamic", "subformat=fixed", "block_size=1M", "block_size=2M,subformat=fixed", "block_size=256M",
    "log_size=4M", "block_state_zero=off", "subformat=fixed,block_state_zero=off", "block_size=1M,log_size=3M",
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [512, 17 * MIB + 512 * 3])
def test_what_qemu_img_writes_is_read_right_and_checks_clean(images, tool, tmp_path, options, size):
    data = images.content(size, seed=1)
    (tmp_path / "a.raw").write_bytes(data)
    tool("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", options, "a.raw", "a.vhdx")
    assert images.read(tmp_path / "a.vhdx") == data
    assert images.check(tmp_path / "a.vhdx").corruptions == 0
    wanted = dict(pair.split("=") for pair in options.split(","))
    with images.open(tmp_path / "a.vhdx") as source:
        info = source.info()
        assert info["details"]["creator"].startswith("QEMU")
        assert info["subformat"] == wanted.get("subformat", "dynamic")
        assert info["cluster_size"] == json.loads(tool("qemu-img", "info", "--output=json", "a.vhdx"))["cluster-size"]
        assert info["details"]["log_size"] == int(wanted.get("log_size", "1M")[:-1]) * MIB


def test_what_qemu_io_changes_is_read_right(images, tool, tmp_path):
    images.write(images.content(40 * MIB, seed=2), {"block_size": "1M"})
    commands = ("write -P 51 100k 3M", "write -P 9 39M 512", "write -P 3 4000k 1k")
    tool("qemu-io", "-f", "vhdx", *[part for command in commands for part in ("-c", command)], "ours.vhdx")
    tool("qemu-img", "convert", "-O", "raw", "ours.vhdx", "now.raw")
    assert images.read(tmp_path / "ours.vhdx") == (tmp_path / "now.raw").read_bytes()
    with images.open(tmp_path / "ours.vhdx") as source:
        assert source.info()["details"]["header_sequence"] > 2
        assert source.info()["dirty"] is False


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("interrupted", [False, True])
def test_what_we_write_is_accepted_by_qemu_img(images, tool, tmp_path, options, interrupted):
    data = images.content(33 * MIB + 1234, seed=3)
    (tmp_path / "a.raw").write_bytes(data)
    step = 5 * 65536
    interrupt = (lambda offset: offset % (31 * step) == 9 * step) if interrupted else (lambda _: False)
    path = images.write(data, dict(pair.split("=") for pair in options.split(",")), interrupt=interrupt)
    assert json.loads(tool("qemu-img", "check", "--output=json", path))["check-errors"] == 0
    tool("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "a.raw", path)
    assert images.read(path)[: len(data)] == data
    report = images.check(path)
    assert (report.corruptions, report.leaks, report.messages) == (0, 0, ())


@pytest.mark.parametrize("size", [1, 511, 512, 513, MIB - 1, 3 * MIB + 1])
def test_sizes_are_rounded_up_to_a_sector_as_qemu_img_does(images, tool, tmp_path, size):
    path = images.write(b"x" * size)
    with images.open(path) as source:
        assert source.size == -(-size // 512) * 512
    assert json.loads(tool("qemu-img", "info", "--output=json", path))["virtual-size"] == -(-size // 512) * 512


def test_the_block_size_follows_the_disk_as_in_qemu_img(images, tool, tmp_path):
    for size in (MIB, (1 << 30) + 512, (100 << 30) + 512, (32 << 40) + 512):
        tool("qemu-img", "create", "-f", "vhdx", "theirs.vhdx", str(size))
        with ImageFile.create(tmp_path / "ours.vhdx") as file:
            images.format.create(file, size).finish()
        theirs, ours = (
            json.loads(tool("qemu-img", "info", "--output=json", name)) for name in ("theirs.vhdx", "ours.vhdx")
        )
        assert ours["cluster-size"] == theirs["cluster-size"]
        assert ours["virtual-size"] == theirs["virtual-size"] == size
        (tmp_path / "ours.vhdx").unlink()


@pytest.mark.parametrize("options", [{}, {"block_size": "1M", "block_state_zero": "off"}])
def test_a_disk_of_16_tib_with_scattered_data_is_accepted(images, tool, tmp_path, options):
    path = tmp_path / "big.vhdx"
    with ImageFile.create(path) as file:
        sink = images.format.create(file, 16 << 40, options)
        for terabyte in range(16):
            sink.write(terabyte << 40, bytes([terabyte + 1]) * 65536)
        sink.finish()
    tool("qemu-img", "check", path)
    assert path.stat().st_blocks * 512 < 24 * MIB
    with images.open(path) as source:
        data = [(e.offset, e.length) for e in source.extents() if e.kind]
        assert data == [(terabyte << 40, 65536) for terabyte in range(16)]
        buffer = bytearray(2)
        source.readinto((15 << 40) + 65534, memoryview(buffer))
        assert buffer == b"\x10\x10"
    assert images.check(path).corruptions == 0


def test_ranges_of_a_file_arrive_contiguous_without_passing_through_memory(images, tool, tmp_path):
    data = images.content(5 * MIB, seed=5) + b"tail"
    (tmp_path / "source.raw").write_bytes(data)
    with ImageFile.open(tmp_path / "source.raw") as plain, ImageFile.create(tmp_path / "a.vhdx") as file:
        sink = images.format.create(file, len(data), {"block_size": "1M"})
        assert sink.write_file_range(0, FileRange(plain.fileno(), 0, 65536 * 20))
        assert sink.write_file_range(65536 * 20, FileRange(plain.fileno(), 65536 * 20, len(data) - 65536 * 20))
        sink.finish()
    tool("qemu-img", "compare", "-f", "raw", "-F", "vhdx", "source.raw", "a.vhdx")
    with images.open(tmp_path / "a.vhdx") as source:
        assert len(list(source.file_ranges(0, len(data)))) == 1

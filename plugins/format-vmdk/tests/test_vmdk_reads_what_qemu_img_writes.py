"""Every subformat as qemu-img writes it, read byte for byte as qemu-img itself reads it."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vmdk import VmdkFormat

pytestmark = pytest.mark.peer

SUBFORMATS = ["monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]


@pytest.mark.parametrize("size", [512, 65536 * 3 + 512 * 7, 40 << 20])
@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_every_subformat_and_odd_capacities_read_the_same(tmp_path, qemu_img, read, sample, subformat, size):
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.vmdk"
    raw.write_bytes(sample(size))
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, image)
    assert read(image) == raw.read_bytes()
    with VmdkFormat().open(ImageFile.open(image)) as source:
        info = source.info()
    assert (info["format"], info["subformat"], info["virtual_size"]) == ("vmdk", subformat, size)
    assert info["compressed"] == (subformat == "streamOptimized")


@pytest.mark.parametrize("subformat", ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_a_disk_of_several_extents_is_read_across_their_border(tmp_path, qemu_img, subformat):
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.vmdk"
    size, border = (4 << 30) + 512, 2 << 30
    with raw.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), b"x" * 8192, border - 4096)
        os.pwrite(file.fileno(), b"end", size - 3)
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, image)
    with VmdkFormat().open(ImageFile.open(image)) as source:
        assert source.size == size
        assert len(source.info()["details"]["extents"]) == 3
        got = bytearray(12288)
        source.readinto(border - 6144, memoryview(got))
        assert bytes(got) == bytes(2048) + b"x" * 8192 + bytes(2048)
        tail = bytearray(512)
        source.readinto(size - 512, memoryview(tail))
        assert bytes(tail) == bytes(509) + b"end"
        data = [e for e in source.extents() if e.kind is ExtentKind.DATA]
        assert sum(e.length for e in data) <= 3 * 65536


def test_zeroed_grains_written_by_qemu_img_are_zeros(tmp_path, qemu_img, read):
    image = tmp_path / "disk.vmdk"
    qemu_img("create", "-f", "vmdk", "-o", "zeroed_grain=on", image, "1M")
    subprocess.run(
        ["qemu-io", "-f", "vmdk", "-c", "write -P 7 0 256k", "-c", "write -z 64k 64k", str(image)],
        check=True, capture_output=True,
    )  # fmt: skip
    expected = bytearray(1 << 20)
    expected[: 256 << 10] = b"\x07" * (256 << 10)
    expected[64 << 10 : 128 << 10] = bytes(64 << 10)
    assert read(image) == bytes(expected)


def test_a_delta_is_read_over_its_parents_only_with_chain_on(tmp_path, qemu_img, read, sample):
    raw, base = tmp_path / "disk.raw", tmp_path / "base.vmdk"
    raw.write_bytes(sample(4 << 20))
    qemu_img("convert", "-O", "vmdk", raw, base)
    for child, parent, at in (("middle", "base", 1 << 20), ("top", "middle", 2 << 20)):
        subprocess.run(
            ["qemu-img", "create", "-f", "vmdk", "-b", f"{parent}.vmdk", "-F", "vmdk", f"{child}.vmdk"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["qemu-io", "-f", "vmdk", "-c", f"write -P 9 {at} 1000", f"{child}.vmdk"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip
    flat = tmp_path / "flat.raw"
    qemu_img("convert", "-O", "raw", tmp_path / "top.vmdk", flat)
    assert read(tmp_path / "top.vmdk", chain="on") == flat.read_bytes()
    with VmdkFormat().open(ImageFile.open(tmp_path / "top.vmdk"), {"chain": "on"}) as source:
        for extent in source.extents():
            ranges = source.file_ranges(extent.offset, extent.length) if extent.kind is ExtentKind.DATA else None
            if ranges is not None:
                data = b"".join(os.pread(r.fd, r.length, r.file_offset) for r in ranges)
                assert data == flat.read_bytes()[extent.offset : extent.end]

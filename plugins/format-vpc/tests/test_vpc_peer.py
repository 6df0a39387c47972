"""With qemu-img: what it writes is read, what we write is the same to it, and both agree on sizes where they should."""

from __future__ import annotations

import json

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.pipeline import copy
from hypersdk_format_raw import RawFormat
from hypersdk_format_vpc import VpcFormat
from hypersdk_format_vpc.geometry import rounded

pytestmark = pytest.mark.peer
KINDS = [{"subformat": s, "force_size": f} for s in ("dynamic", "fixed") for f in ("off", "on")]


@pytest.mark.parametrize("options", KINDS, ids=lambda o: ",".join(o.values()))
@pytest.mark.parametrize("size", [512, 65536, (5 << 20) + 512 * 7, 70 << 20])
def test_an_image_of_qemu_img_reads_as_what_went_in(tmp_path, qemu_img, read, sample, options, size):
    data = sample(size)
    (tmp_path / "a.raw").write_bytes(data)
    written = ",".join(f"{k}={v}" for k, v in options.items())
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", written, tmp_path / "a.raw", tmp_path / "a.vhd")
    found = read(tmp_path / "a.vhd")
    assert found[:size] == data
    assert not any(found[size:])
    with VpcFormat().open(ImageFile.open(tmp_path / "a.vhd")) as source:
        assert source.info()["subformat"] == options["subformat"]
    report = VpcFormat().check(ImageFile.open(tmp_path / "a.vhd"))
    assert (report.corruptions, report.leaks) == (0, 0), report.messages


@pytest.mark.parametrize("options", [*KINDS, {"block_size": "512K"}], ids=lambda o: ",".join(o.values()))
@pytest.mark.parametrize("size", [512, (5 << 20) + 512 * 7, 70 << 20])
def test_qemu_img_finds_our_image_identical(tmp_path, qemu_img, sample, options, size):
    raw, image = tmp_path / "a.raw", tmp_path / "a.vhd"
    raw.write_bytes(sample(size))
    with ImageFile.create(image) as file, RawFormat().open(ImageFile.open(raw)) as source:
        copy(source, VpcFormat().create(file, size, options))
    assert "identical" in qemu_img("compare", "-f", "raw", "-F", "vpc", raw, image)


@pytest.mark.parametrize("force_size", ["on", "off"])
@pytest.mark.parametrize("size", [512, 34816, 35328, 504 << 20, 8 << 30, 33 << 30, 127 << 30, 128 << 30, 2040 << 30])
def test_sizes_and_geometries_are_those_of_qemu_img(tmp_path, qemu_img, size, force_size):
    qemu_img("create", "-f", "vpc", "-o", f"force_size={force_size}", tmp_path / "a.vhd", size)
    capacity, geometry = rounded(size, exact=force_size == "on")
    with VpcFormat().open(ImageFile.open(tmp_path / "a.vhd")) as source:
        assert source.size == capacity
        assert source.info()["details"]["geometry"] == list(geometry)


@pytest.mark.parametrize(
    ("creator", "agreed"),
    [(b"vpc ", True), (b"win ", True), (b"qem2", True), (b"d2v ", True), (b"tap\0", True), (b"CTXS", True),
     (b"wa\0\0", False), (b"vbox", False), (b"qemu", False)],
)  # fmt: skip
def test_the_size_that_counts_is_the_readmes(tmp_path, qemu_img, vhd, creator, agreed):
    """The geometry says 34,816 bytes, the footer 100 KiB: to believe the geometry of VirtualBox's disks loses their
    ends."""
    image = tmp_path / "a.vhd"
    image.write_bytes(vhd(102400, {}, creator=creator))
    theirs = json.loads(qemu_img("info", "-f", "vpc", "--output=json", image))["virtual-size"]
    with VpcFormat().open(ImageFile.open(image)) as source:
        assert (source.size == theirs) is agreed
        assert source.size == (34816 if creator == b"vpc " else 102400)


def test_the_largest_geometry_stands_for_the_current_size_even_of_virtual_pc(tmp_path, qemu_img, vhd):
    image = tmp_path / "a.vhd"
    image.write_bytes(vhd(102400, {}, creator=b"vpc ", geometry=(65535, 16, 255)))
    assert json.loads(qemu_img("info", "-f", "vpc", "--output=json", image))["virtual-size"] == 102400
    with VpcFormat().open(ImageFile.open(image)) as source:
        assert source.size == 102400

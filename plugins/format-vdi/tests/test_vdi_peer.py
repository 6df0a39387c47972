"""With qemu-img: what it writes is read, what we write it finds clean and the same."""

from __future__ import annotations

import json

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.pipeline import copy
from hypersdk_format_raw import RawFormat
from hypersdk_format_vdi import VdiFormat

pytestmark = pytest.mark.peer
STATIC = pytest.mark.parametrize("static", ["off", "on"])
SIZES = pytest.mark.parametrize("size", [512, 1 << 20, (5 << 20) + 512 * 7, 70 << 20])


@STATIC
@SIZES
def test_an_image_of_qemu_img_reads_as_what_went_in(tmp_path, qemu_img, read, sample, static, size):
    data = sample(size)
    (tmp_path / "a.raw").write_bytes(data)
    qemu_img("convert", "-f", "raw", "-O", "vdi", "-o", f"static={static}", tmp_path / "a.raw", tmp_path / "a.vdi")
    assert read(tmp_path / "a.vdi") == data
    with VdiFormat().open(ImageFile.open(tmp_path / "a.vdi")) as source:
        assert source.info()["subformat"] == ("static" if static == "on" else "dynamic")
    report = VdiFormat().check(ImageFile.open(tmp_path / "a.vdi"))
    assert (report.corruptions, report.leaks) == (0, 0), report.messages


@STATIC
@SIZES
def test_qemu_img_finds_our_image_clean_and_identical(tmp_path, qemu_img, sample, static, size):
    raw, image = tmp_path / "a.raw", tmp_path / "a.vdi"
    raw.write_bytes(sample(size))
    with ImageFile.create(image) as file, RawFormat().open(ImageFile.open(raw)) as source:
        copy(source, VdiFormat().create(file, size, {"static": static}))
    qemu_img("check", image)
    assert qemu_img("compare", "-f", "raw", "-F", "vdi", raw, image) == "Images are identical.\n"
    assert json.loads(qemu_img("info", "--output=json", image))["virtual-size"] == size


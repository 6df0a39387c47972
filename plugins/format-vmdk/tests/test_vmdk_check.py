"""What `check` finds, and what it does not hold against an image."""

from __future__ import annotations

import random
import struct

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vmdk import VmdkFormat

DATA = random.Random(1).randbytes(65536)


@pytest.fixture
def report(tmp_path, hosted, descriptor):
    """The report on a monolithicSparse image of four grains, after `change` has had its way with the bytes."""

    def make(grains, change=lambda image: None):
        text = descriptor("monolithicSparse", 'RW 512 SPARSE "a.vmdk"')
        image = bytearray(hosted(512, grains, text=text))
        change(image)
        (tmp_path / "a.vmdk").write_bytes(image)
        return VmdkFormat().check(ImageFile.open(tmp_path / "a.vmdk"))

    return make


def test_a_sound_image_has_nothing_to_report(report):
    found = report({0: DATA, 3: DATA})
    assert (found.corruptions, found.leaks, found.allocated_units, found.total_units) == (0, 0, 2, 4)
    assert found.messages == ()


def test_two_grains_in_one_place_overlap(report):
    found = report({0: DATA, 3: 128})
    assert found.corruptions == 1
    assert "overlap" in found.messages[0]


def test_entries_past_the_end_of_the_file_are_counted_and_named(report):
    found = report({0: DATA, 3: 100000})
    assert found.corruptions >= 1
    assert "grain 3" in found.messages[0]


def test_copies_of_the_tables_that_differ_are_counted(report):
    found = report({0: DATA, 1: DATA}, lambda image: struct.pack_into("<I", image, 22 * 512, 0))
    assert found.corruptions == 1
    assert "redundant" in found.messages[0]


def test_space_between_grains_that_nothing_uses_is_a_leak(report):
    def forget(image: bytearray) -> None:
        for table in (22, 27):
            struct.pack_into("<I", image, table * 512 + 4, 0)

    found = report({0: DATA, 1: DATA, 2: DATA}, forget)
    assert (found.corruptions, found.leaks, found.repaired) == (0, 1, 0)


def test_space_before_the_first_grain_and_behind_the_last_is_a_leak(report):
    def forget(image: bytearray) -> None:
        for table in (22, 27):
            struct.pack_into("<I", image, table * 512, 0)
            struct.pack_into("<I", image, table * 512 + 8, 0)
        image += bytes(65536 + 100)

    found = report({0: DATA, 1: DATA, 2: DATA}, forget)
    assert (found.corruptions, found.leaks) == (0, 3)
    assert "3 grains" in found.messages[0]


def test_an_image_all_of_whose_grains_are_forgotten_leaks_them_all(report):
    def forget(image: bytearray) -> None:
        for table in (22, 27):
            struct.pack_into("<II", image, table * 512, 0, 0)

    assert report({0: DATA, 1: DATA}, forget).leaks == 2


@pytest.mark.peer
@pytest.mark.parametrize("subformat", ["monolithicSparse", "twoGbMaxExtentSparse"])
def test_qemu_imgs_images_leak_nothing(tmp_path, qemu_img, sample, subformat):
    (tmp_path / "a.raw").write_bytes(sample(9 << 20))
    qemu_img("convert", "-O", "vmdk", "-o", f"subformat={subformat}", tmp_path / "a.raw", tmp_path / "a.vmdk")
    with ImageFile.open(tmp_path / "a.vmdk") as file:
        found = VmdkFormat().check(file)
    assert (found.corruptions, found.leaks, found.messages) == (0, 0, ())


def test_a_stream_with_a_wrong_marker_is_corrupt(tmp_path):
    path = tmp_path / "s.vmdk"
    sink = VmdkFormat().create(ImageFile.create(path), 131072, {"subformat": "streamOptimized"})
    sink.write(0, DATA + DATA)
    sink.finish()
    assert VmdkFormat().check(ImageFile.open(path)).corruptions == 0
    image = bytearray(path.read_bytes())
    struct.pack_into("<Q", image, 65536, 77)
    path.write_bytes(image)
    found = VmdkFormat().check(ImageFile.open(path))
    assert found.corruptions == 1
    assert "sector 77" in found.messages[0]


def test_every_extent_of_a_split_disk_is_checked(tmp_path, hosted, descriptor):
    (tmp_path / "s1").write_bytes(hosted(128, {0: DATA}))
    (tmp_path / "s2").write_bytes(hosted(128, {0: 99999}))
    (tmp_path / "a.vmdk").write_bytes(
        descriptor("twoGbMaxExtentSparse", 'RW 128 SPARSE "s1"', 'RW 128 SPARSE "s2"')
    )
    found = VmdkFormat().check(ImageFile.open(tmp_path / "a.vmdk"))
    assert found.corruptions >= 1
    assert found.total_units == 2

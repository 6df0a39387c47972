"""check(): finds what is wrong, mends leaks and nothing else."""

from __future__ import annotations

import struct
import subprocess

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition

CLUSTER = 4096


@pytest.fixture
def path(images):
    return images.write(b"\1" * (64 * CLUSTER), {"cluster_size": "4k"})


def word(path, offset: int) -> int:
    return struct.unpack_from(">Q", path.read_bytes(), offset)[0]


def patch(path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def l2_entry(path, index: int) -> int:
    """Where entry `index` of the first L2 table lies, bytes."""
    return (word(path, word(path, 40)) & ~(1 << 63)) + 8 * index


def test_what_we_write_is_sound(images, path) -> None:
    report = images.check(path)
    assert (report.corruptions, report.leaks, report.repaired) == (0, 0, 0)
    assert (report.allocated_units, report.total_units) == (64, 64)


def test_an_entry_that_was_dropped_is_a_leak_which_repair_mends(images, path) -> None:
    patch(path, l2_entry(path, 3), bytes(8))
    report = images.check(path)
    assert (report.corruptions, report.leaks) == (0, 1)
    report = images.check(path, repair=True)
    assert (report.corruptions, report.leaks, report.repaired) == (0, 0, 1)
    assert images.check(path).leaks == 0


def test_two_entries_for_one_cluster_are_a_corruption_which_repair_leaves_alone(images, path) -> None:
    patch(path, l2_entry(path, 3), word(path, l2_entry(path, 4)).to_bytes(8, "big"))
    before = path.read_bytes()
    report = images.check(path, repair=True)
    assert report.corruptions >= 1
    assert report.leaks == 1
    assert any("more often" in message for message in report.messages)
    assert path.read_bytes() == before


@pytest.mark.parametrize("entry", [0x8200, 1 << 50, 1 << 60 | 0x8000, 1 << 62 | 1 << 40])
def test_impossible_entries_are_counted_and_do_not_stop_the_check(images, path, entry) -> None:
    patch(path, l2_entry(path, 3), entry.to_bytes(8, "big"))
    report = images.check(path)
    assert report.corruptions >= 1
    assert report.messages


def test_a_copied_flag_that_lies_is_a_corruption(images, path) -> None:
    patch(path, l2_entry(path, 3), (word(path, l2_entry(path, 3)) & ~(1 << 63)).to_bytes(8, "big"))
    report = images.check(path)
    assert (report.corruptions, report.leaks) == (1, 0)
    assert "COPIED" in report.messages[0]


def test_a_refcount_that_is_too_low_is_a_corruption(images, path) -> None:
    block = word(path, word(path, 48))
    patch(path, block + 2 * 5, bytes(2))
    assert images.check(path).corruptions >= 1


def test_repair_needs_a_writable_file(images, path) -> None:
    with ImageFile.open(path) as file, pytest.raises(FailedPrecondition) as caught:
        images.format.check(file, repair=True)
    assert caught.value.reason == "FILE_NOT_WRITABLE"


@pytest.mark.parametrize("bits", ["1", "2", "4", "8", "32", "64"])
def test_leaks_are_mended_with_refcounts_of_every_width(images, bits) -> None:
    path = images.write(b"\1" * (64 * CLUSTER), {"cluster_size": "4k", "refcount_bits": bits})
    patch(path, l2_entry(path, 60), bytes(8 * 3))
    assert images.check(path, repair=True).repaired == 3
    report = images.check(path)
    assert (report.corruptions, report.leaks) == (0, 0)


def mend(images, path):
    with ImageFile.open(path, writable=True) as file:
        return images.format.mend(file)


@pytest.mark.parametrize("order", ["1", "16", "64"])
def test_mending_makes_lost_refcounts_and_flags_agree_with_the_tables(images, order) -> None:
    path = images.write(b"\1" * (64 * CLUSTER), {"cluster_size": "4k", "refcount_bits": order})
    wanted = path.read_bytes()
    block = word(path, word(path, 48))
    patch(path, block, bytes(CLUSTER))
    patch(path, l2_entry(path, 5), (word(path, l2_entry(path, 5)) & ~(1 << 63)).to_bytes(8, "big"))
    patch(path, 72, (3).to_bytes(8, "big"))
    assert images.check(path).corruptions > 64
    report = mend(images, path)
    assert (report.corruptions, report.leaks) == (0, 0)
    assert report.repaired > 64
    assert path.read_bytes() == wanted


def test_mending_leaves_a_cluster_with_two_owners_alone(images, path) -> None:
    patch(path, l2_entry(path, 3), word(path, l2_entry(path, 4)).to_bytes(8, "big"))
    before = path.read_bytes()
    assert mend(images, path).corruptions >= 1
    assert path.read_bytes() == before


@pytest.mark.peer
@pytest.mark.parametrize("options", ["lazy_refcounts=on", "lazy_refcounts=on,extended_l2=on"])
def test_an_image_that_a_crash_left_dirty_is_mended_to_qemu_imgs_liking(images, tmp_path, qemu_img, options) -> None:
    qemu_img("create", "-f", "qcow2", "-o", options, "dirty.qcow2", "64M")
    subprocess.run(
        ["qemu-io", "-c", "write -P 7 0 3M", "-c", "abort", "dirty.qcow2"], cwd=tmp_path, capture_output=True,
        check=False,
    )  # fmt: skip
    path = tmp_path / "dirty.qcow2"
    assert images.check(path).details["dirty"]
    report = mend(images, path)
    assert (report.corruptions, report.leaks) == (0, 0)
    assert not images.check(path).details["dirty"]
    qemu_img("check", "dirty.qcow2")
    assert images.read(path)[: 3 << 20] == b"\7" * (3 << 20)

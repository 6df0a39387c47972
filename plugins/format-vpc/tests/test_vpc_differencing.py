"""Differencing disks: bitmaps to the sector, parents by plain name, UUID and timestamp, and never without a parent."""

from __future__ import annotations

import os

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, InvalidArgument, MalformedImage, NotFound, PermissionDenied
from hypersdk_format_vpc import VpcFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK = 1 << 16
SIZE = 3 * BLOCK + 512 * 5
FULL = b"\xff" * 16


@pytest.fixture
def base(tmp_path, vhd):
    """Block 0 is all 'P', block 1 is not stored, block 3 (short) is all 'Q'."""
    image = vhd(SIZE, {0: (FULL, b"P" * BLOCK), 3: (FULL, b"Q" * BLOCK)}, uuid=7, timestamp=1000)
    (tmp_path / "base.vhd").write_bytes(image)
    return b"P" * BLOCK + bytes(2 * BLOCK) + b"Q" * 2560


@pytest.fixture
def child(tmp_path, vhd):
    """Write a child of base.vhd; the path."""

    def make(blocks, **changes):
        options = {"parent": 7, "parent_timestamp": 1000, "locators": {b"W2ru": ".\\base.vhd"}, "uuid": 8, **changes}
        (tmp_path / "child.vhd").write_bytes(vhd(SIZE, blocks, kind=4, **options))
        return tmp_path / "child.vhd"

    return make


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.lists(st.booleans(), min_size=128, max_size=128))
def test_every_sector_comes_from_where_its_bit_says(base, child, read, bits):
    bitmap = bytes(sum(bits[8 * i + j] << (7 - j) for j in range(8)) for i in range(16))
    path = child({0: (bitmap, b"C" * BLOCK), 1: (bitmap, b"D" * BLOCK)})
    want = bytearray(base)
    for sector, is_set in enumerate(bits):
        if is_set:
            want[sector * 512 : sector * 512 + 512] = b"C" * 512
            want[BLOCK + sector * 512 : BLOCK + sector * 512 + 512] = b"D" * 512
    assert read(path, chain="on") == want


def test_runs_that_are_not_of_whole_bytes_of_the_bitmap_are_honoured_at_any_offset(base, child):
    path = child({0: (b"\x1f\x80\x00\x01", b"C" * BLOCK)})
    content = bytearray(base)
    content[3 * 512 : 9 * 512] = b"C" * (6 * 512)
    content[31 * 512 : 32 * 512] = b"C" * 512
    with VpcFormat().open(ImageFile.open(path), {"chain": "on"}) as source:
        for offset in range(0, 20000, 317):
            buffer = bytearray(1000)
            source.readinto(offset, memoryview(buffer))
            assert buffer == content[offset : offset + 1000]


def test_clear_bits_of_a_dynamic_disk_are_zeros_whatever_lies_there(tmp_path, vhd, read):
    (tmp_path / "a.vhd").write_bytes(vhd(BLOCK, {0: (b"\x0f", b"X" * BLOCK)}))
    assert read(tmp_path / "a.vhd") == bytes(2048) + b"X" * 2048 + bytes(BLOCK - 4096)


def test_without_chain_a_differencing_disk_is_refused_and_names_its_parent(base, child):
    path = child({})
    with pytest.raises(FailedPrecondition, match=r"base\.vhd") as caught:
        VpcFormat().open(ImageFile.open(path))
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    with VpcFormat().open(ImageFile.open(path), {"chain": "off"}) as source:
        assert source.info()["backing_file"] == "base.vhd"
        with pytest.raises(FailedPrecondition):
            source.readinto(0, memoryview(bytearray(512)))
        with pytest.raises(FailedPrecondition):
            list(source.extents())


@pytest.mark.parametrize(
    "named",
    [
        {"locators": {b"W2ru": "base.vhd"}},
        {"locators": {b"W2ku": "C:\\Virtual Machines\\base.vhd"}},
        {"locators": {b"MacX": "file://localhost/vms/base.vhd"}},
        {"locators": {}, "parent_name": "D:\\x\\base.vhd"},
        {"locators": {b"Wi2r": "old", b"W2ru": ".\\base.vhd", b"W2ku": "C:\\gone\\other.vhd"}},
    ],
    ids=["relative", "absolute", "mac", "header", "several"],
)
def test_the_parent_is_found_beside_the_image_by_any_of_its_names(base, child, read, named):
    assert read(child({}, **named), chain="on") == base


@pytest.mark.parametrize("name", ["..\\base.vhd", "sub\\base.vhd", "/etc/passwd", ".\\..\\base.vhd", "json:{}"])
def test_relative_names_that_leave_the_directory_are_refused(base, child, name):
    with pytest.raises(PermissionDenied) as caught:
        VpcFormat().open(ImageFile.open(child({}, locators={b"W2ru": name})), {"chain": "on"})
    assert caught.value.reason == "REFERENCE_REFUSED"


def test_a_symbolic_link_is_no_parent(tmp_path, base, child):
    os.rename(tmp_path / "base.vhd", tmp_path / "real.vhd")
    os.symlink("real.vhd", tmp_path / "base.vhd")
    with pytest.raises(PermissionDenied):
        VpcFormat().open(ImageFile.open(child({})), {"chain": "on"})


def test_a_parent_that_is_missing_or_unnamed_is_said_to_be(tmp_path, base, child):
    with pytest.raises(NotFound):
        VpcFormat().open(ImageFile.open(child({}, locators={b"W2ru": "gone.vhd"})), {"chain": "on"})
    with pytest.raises(MalformedImage, match="does not name"):
        VpcFormat().open(ImageFile.open(child({}, locators={})), {"chain": "on"})


def test_a_parent_with_another_uuid_is_never_read(base, child):
    with pytest.raises(FailedPrecondition) as caught:
        VpcFormat().open(ImageFile.open(child({}, parent=9)), {"chain": "on", "ignore_timestamp": "on"})
    assert caught.value.reason == "PARENT_MISMATCH"


def test_the_timestamp_is_the_footers_or_the_files_and_may_be_waived(tmp_path, base, child, read):
    os.utime(tmp_path / "base.vhd", (946684800 + 5000, 946684800 + 5000))
    assert read(child({}, parent_timestamp=5001), chain="on") == base
    assert read(child({}, parent_timestamp=1000), chain="on") == base
    stale = child({}, parent_timestamp=4000)
    with pytest.raises(FailedPrecondition, match="ignore_timestamp") as caught:
        VpcFormat().open(ImageFile.open(stale), {"chain": "on"})
    assert caught.value.reason == "PARENT_MISMATCH"
    assert read(stale, chain="on", ignore_timestamp="on") == base


def test_a_chain_that_bites_its_tail_is_refused(base, child):
    path = child({}, locators={b"W2ru": "child.vhd"}, parent=8)
    with pytest.raises(MalformedImage) as caught:
        VpcFormat().open(ImageFile.open(path), {"chain": "on"})
    assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


def test_chains_of_three_and_smaller_parents_read_through(tmp_path, vhd, base, child, read):
    child({1: (FULL, b"C" * BLOCK)})
    grown = SIZE + BLOCK
    image = vhd(grown, {}, kind=4, parent=8, locators={b"W2ru": "child.vhd"}, uuid=9)
    (tmp_path / "top.vhd").write_bytes(image)
    want = base[:BLOCK] + b"C" * BLOCK + base[2 * BLOCK :]
    assert read(tmp_path / "top.vhd", chain="on") == want + bytes(BLOCK)


def test_impossible_options_are_refused_and_close_the_file(base, child):
    before = len(os.listdir("/proc/self/fd"))
    for options in ({"chain": "maybe"}, {"force_size_calc": "x"}, {"nonsense": "1"}):
        with pytest.raises(InvalidArgument):
            VpcFormat().open(ImageFile.open(child({})), options)
    assert len(os.listdir("/proc/self/fd")) == before

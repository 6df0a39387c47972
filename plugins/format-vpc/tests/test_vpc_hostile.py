"""Hostile and damaged images: a typed error or the right bytes, never anything else, in bounded time and memory."""

from __future__ import annotations

import random
import resource
import struct
import time
from pathlib import Path

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage, Unsupported
from hypersdk_format_vpc import VpcFormat
from hypersdk_format_vpc.footer import with_checksum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK = 1 << 16
FULL = b"\xff" * 16
A, B = random.Random(1).randbytes(BLOCK), random.Random(2).randbytes(BLOCK)
SIZE = 5 * BLOCK
CONTENT = A + bytes(2 * BLOCK) + B + bytes(BLOCK)
MUTATIONS = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(path: Path, **options: str) -> bytes | HyperError:
    """What reading gives: the content, of huge disks the first MiB of each extent, or a typed error."""
    try:
        with VpcFormat().open(ImageFile.open(path), options) as source:
            assert source.info()["format"] == "vpc"
            for extent in source.extents():
                if extent.kind is ExtentKind.DATA and source.size > 64 << 20:
                    source.readinto(extent.offset, memoryview(bytearray(min(extent.length, 1 << 20))))
            data = bytearray(min(source.size, 64 << 20))
            source.readinto(0, memoryview(data))
            return bytes(data)
    except HyperError as exc:
        return exc


@pytest.fixture
def whole(vhd) -> bytearray:
    return bytearray(vhd(SIZE, {0: (FULL, A), 3: (FULL, B)}))


@pytest.fixture
def put(tmp_path):
    def write(image: bytes) -> Path:
        (tmp_path / "a.vhd").write_bytes(image)
        return tmp_path / "a.vhd"

    return write


def reheader(image: bytearray, at: int, form: str, value: int) -> bytearray:
    """Change a field of the dynamic header and make its checksum right again."""
    struct.pack_into(form, image, 512 + at, value)
    image[512:1536] = with_checksum(bytes(image[512:1536]), 36)
    return image


def refooter(image: bytearray, at: int, form: str, value: int) -> bytearray:
    """The same with both footers."""
    struct.pack_into(form, image, at, value)
    image[:512] = image[-512:] = with_checksum(bytes(image[:512]), 64)
    return image


def test_a_dynamic_disk_cut_anywhere_is_an_error_or_whole(put, whole):
    assert outcome(put(whole)) == CONTENT
    for cut in range(0, len(whole), 512):
        for length in {cut, cut + 1, max(0, cut - 1)}:
            got = outcome(put(whole[:length]))
            if length >= len(whole) - 512:  # only the footer is cut: its copy is used
                assert got == CONTENT
            else:
                assert isinstance(got, MalformedImage), length


def test_a_fixed_disk_cut_anywhere_is_an_error(tmp_path, put):
    sink = VpcFormat().create(ImageFile.create(tmp_path / "f"), SIZE, {"subformat": "fixed", "force_size": "on"})
    sink.write(0, CONTENT)
    sink.finish()
    image = (tmp_path / "f").read_bytes()
    assert outcome(put(image)) == CONTENT
    for length in (0, 1, 511, 512, 513, BLOCK, len(image) - 513, len(image) - 512, len(image) - 2):
        assert isinstance(outcome(put(image[:length])), MalformedImage), length
    assert outcome(put(image[:-1])) == CONTENT  # a footer of 511 bytes, as before Virtual PC 2004


def test_a_fixed_disk_that_lost_bytes_in_front_of_its_footer_is_truncated(tmp_path, put):
    sink = VpcFormat().create(ImageFile.create(tmp_path / "f"), SIZE, {"subformat": "fixed", "force_size": "on"})
    sink.write(0, CONTENT)
    sink.finish()
    image = (tmp_path / "f").read_bytes()
    got = outcome(put(image[512:]))
    assert isinstance(got, MalformedImage)
    assert got.reason == "IMAGE_TRUNCATED"


def test_a_damaged_footer_is_made_good_by_its_copy_and_check_says_so(put, whole):
    for start in (0, len(whole) - 512):
        image = bytearray(whole)
        image[start + 100] ^= 1
        assert outcome(put(image)) == CONTENT
        report = VpcFormat().check(ImageFile.open(put(image)))
        assert report.corruptions == 1
        assert "checksum" in report.messages[0]


def test_copies_that_differ_are_told_and_the_footer_counts(put, whole):
    image = refooter(bytearray(whole), 24, ">I", 77)
    image[:512] = whole[:512]
    assert outcome(put(image)) == CONTENT
    assert VpcFormat().check(ImageFile.open(put(image))).corruptions == 1


def test_with_both_footers_damaged_the_image_is_refused(put, whole):
    whole[100] ^= 1
    whole[-100] ^= 1
    assert isinstance(outcome(put(whole)), MalformedImage)


def test_a_footer_of_511_bytes_is_read(put, whole):
    assert outcome(put(whole[:-1])) == CONTENT
    assert VpcFormat().check(ImageFile.open(put(whole[:-1]))).corruptions == 0
    assert VpcFormat().probe(bytes(4096), bytes(whole[-513:-1]), len(whole)) > 0


@pytest.mark.parametrize(
    ("entry", "reason"),
    [(0, "IMAGE_MALFORMED"), (1, "IMAGE_MALFORMED"), (3, "IMAGE_MALFORMED"), (5, "IMAGE_MALFORMED"),
     (100000, "IMAGE_TRUNCATED"), (0xFFFFFFFE, "IMAGE_TRUNCATED")],
)  # fmt: skip
def test_table_entries_into_metadata_other_blocks_or_nowhere_are_refused(put, whole, entry, reason):
    struct.pack_into(">I", whole, 1536 + 4, entry)
    got = outcome(put(whole))
    assert isinstance(got, MalformedImage)
    assert (got.reason, got.structure) == (reason, "block allocation table")
    assert VpcFormat().check(ImageFile.open(put(whole))).corruptions >= 1


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(0, ">Q", 0), (16, ">Q", 100), (16, ">Q", 1 << 62), (16, ">Q", 0), (24, ">I", 0x20000), (28, ">I", 0),
     (28, ">I", 4), (28, ">I", 0xFFFFFFFF), (32, ">I", 0), (32, ">I", 3000), (32, ">I", 1 << 31), (32, ">I", 256)],
)  # fmt: skip
def test_impossible_numbers_in_the_header_are_refused_in_no_time(put, whole, at, form, value):
    started = time.process_time()
    got = outcome(put(reheader(whole, at, form, value)))
    assert isinstance(got, MalformedImage | Unsupported), got
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(12, ">I", 0x20000), (16, ">Q", 1 << 63), (16, ">Q", 4), (48, ">Q", 0), (48, ">Q", 1 << 60), (48, ">Q", 700),
     (60, ">I", 0), (60, ">I", 9)],
)  # fmt: skip
def test_impossible_numbers_in_the_footer_are_refused(put, whole, at, form, value):
    assert isinstance(outcome(put(refooter(whole, at, form, value))), MalformedImage | Unsupported)


def test_a_wrong_checksum_of_the_header_is_refused(put, whole):
    whole[512 + 900] ^= 1
    got = outcome(put(whole))
    assert isinstance(got, MalformedImage)
    assert "checksum" in got.message


def test_a_locator_of_gigabytes_or_past_the_end_is_refused(put, vhd):
    image = bytearray(vhd(SIZE, {}, kind=4, locators={b"W2ru": "x"}))
    for at, form, value in ((576 + 8, ">I", 1 << 31), (576 + 16, ">Q", 1 << 62)):
        got = outcome(put(reheader(bytearray(image), at, form, value)), chain="on")
        assert isinstance(got, MalformedImage)


@MUTATIONS
@given(data=st.data())
def test_mutated_images_give_typed_errors_or_bytes(put, whole, data):
    image = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        base = data.draw(st.sampled_from([0, 512, 1088, 1536, 2048, len(image) - 512]))
        at = min(len(image) - 4, base + data.draw(st.integers(0, 100)))
        value = data.draw(st.sampled_from([0, 1, 2, 3, 4, 0xFFFFFFFF, 0x7FFFFFFF, 512]) | st.integers(0, 2**32 - 1))
        struct.pack_into(">I", image, at, value)
    if data.draw(st.booleans()):  # half of them get past the checksums
        image[512:1536] = with_checksum(bytes(image[512:1536]), 36)
        image[:512] = with_checksum(bytes(image[:512]), 64)
        image[-512:] = with_checksum(bytes(image[-512:]), 64)
    path = put(image)
    started = time.process_time()
    assert isinstance(outcome(path), bytes | HyperError)
    assert isinstance(outcome(path, chain="on"), bytes | HyperError)
    try:
        VpcFormat().check(ImageFile.open(path))
    except HyperError:
        pass
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_largest_table_is_judged_within_a_second_and_256_mib(put, vhd, shuffled):
    """4 Mi blocks of 512 KiB, all of them in the same few places or none: the worst that the limits let through."""
    blocks = 2040 * 2048
    image = bytearray(vhd(SIZE, {}))
    reheader(image, 28, ">I", blocks)
    reheader(image, 32, ">I", 512 << 10)
    refooter(image, 48, ">Q", blocks * (512 << 10))
    entries = random.Random(1).randbytes(blocks * 4) if shuffled else b"\xff" * (blocks * 4)
    path = put(bytes(image[:1536]) + entries + bytes(image[-512:]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    got = outcome(path)
    assert time.process_time() - started < 1.0
    assert isinstance(got, MalformedImage) if shuffled else not any(got)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10

"""Hostile and damaged images: a typed error or the right bytes, never anything else, in bounded time and memory."""

from __future__ import annotations

import os
import random
import resource
import struct
import time
from pathlib import Path

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage
from hypersdk_format_vdi import VdiFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

BLOCK = 1 << 16
FREE, ZERO = 0xFFFFFFFF, 0xFFFFFFFE
BLOCKS = [random.Random(n).randbytes(BLOCK) for n in range(2)]
SIZE = 5 * BLOCK - 512 * 3
CONTENT = BLOCKS[1] + bytes(3 * BLOCK) + BLOCKS[0][: -512 * 3]
MUTATIONS = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def outcome(path: Path) -> bytes | HyperError:
    """What reading gives: the content, of huge disks the first MiB of each extent, or a typed error."""
    try:
        with VdiFormat().open(ImageFile.open(path)) as source:
            assert source.info()["format"] == "vdi"
            for extent in source.extents():
                if extent.kind is ExtentKind.DATA and source.size > 64 << 20:
                    source.readinto(extent.offset, memoryview(bytearray(min(extent.length, 1 << 20))))
            data = bytearray(min(source.size, 64 << 20))
            source.readinto(0, memoryview(data))
            return bytes(data)
    except HyperError as exc:
        return exc


@pytest.fixture
def whole(vdi) -> bytearray:
    return bytearray(vdi(SIZE, [1, FREE, ZERO, FREE, 0], BLOCKS))


@pytest.fixture
def put(tmp_path):
    def write(image: bytes) -> Path:
        (tmp_path / "a.vdi").write_bytes(image)
        return tmp_path / "a.vdi"

    return write


@pytest.mark.parametrize("kind", [1, 2])
def test_a_file_cut_anywhere_is_an_error(put, whole, kind):
    struct.pack_into("<I", whole, 0x4C, kind)
    assert outcome(put(whole)) == CONTENT
    for cut in range(0, len(whole), 512):
        for length in {cut, cut + 1, max(0, cut - 1)}:
            assert isinstance(outcome(put(whole[:length])), MalformedImage), length


def test_what_the_last_block_has_beyond_the_disk_may_be_cut(put, vdi):
    image = vdi(SIZE, [0, FREE, FREE, FREE, 1], BLOCKS)
    want = BLOCKS[0] + bytes(3 * BLOCK) + BLOCKS[1][: -512 * 3]
    assert outcome(put(image[: -512 * 3])) == want
    assert isinstance(outcome(put(image[: -512 * 3 - 1])), MalformedImage)


@pytest.mark.parametrize(("entry", "reason"), [(1, "IMAGE_MALFORMED"), (2, "IMAGE_TRUNCATED"), (5, "IMAGE_TRUNCATED"),
                                               (0xFFFFFFFD, "IMAGE_TRUNCATED")])  # fmt: skip
def test_blocks_in_one_place_or_past_the_end_are_refused(put, whole, entry, reason):
    struct.pack_into("<I", whole, 512 + 4, entry)
    got = outcome(put(whole))
    assert isinstance(got, MalformedImage)
    assert (got.reason, got.structure) == (reason, "block map")
    assert VdiFormat().check(ImageFile.open(put(whole))).corruptions >= 1


def test_a_count_that_is_not_the_maps_and_blocks_that_nothing_uses_are_found(put, whole):
    struct.pack_into("<I", whole, 0x184, 3)
    report = VdiFormat().check(ImageFile.open(put(whole)))
    assert (report.corruptions, report.allocated_units, report.total_units) == (1, 2, 5)
    struct.pack_into("<I", whole, 0x184, 1)
    struct.pack_into("<I", whole, 512 + 16, FREE)
    report = VdiFormat().check(ImageFile.open(put(whole)), repair=True)
    assert (report.corruptions, report.leaks, report.repaired) == (0, 1, 0)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(0x40, "<I", 0), (0x48, "<I", 100), (0x4C, "<I", 9), (0x154, "<I", 0), (0x154, "<I", 1 << 31), (0x158, "<I", 512),
     (0x168, "<I", 4096), (0x170, "<Q", 0), (0x170, "<Q", 1 << 63), (0x178, "<I", 0), (0x178, "<I", 3000),
     (0x178, "<I", 1 << 31), (0x17C, "<I", 1 << 31), (0x180, "<I", 0), (0x180, "<I", 4), (0x180, "<I", 0xFFFFFFFF)],
)  # fmt: skip
def test_impossible_numbers_in_the_header_are_refused_in_no_time(put, whole, at, form, value):
    struct.pack_into(form, whole, at, value)
    started = time.process_time()
    got = outcome(put(whole))
    assert isinstance(got, MalformedImage), got
    assert time.process_time() - started < 0.5


@MUTATIONS
@given(data=st.data())
def test_mutated_images_give_typed_errors_or_bytes(put, whole, data):
    for _ in range(data.draw(st.integers(1, 4))):
        base = data.draw(st.sampled_from([0x40, 0x150, 0x170, 0x180, 512]))
        at = base + data.draw(st.integers(0, 40))
        value = data.draw(st.sampled_from([0, 1, 2, 4, FREE, ZERO, 0x7FFFFFFF, 512]) | st.integers(0, 2**32 - 1))
        struct.pack_into("<I", whole, at, value)
    path = put(whole)
    started = time.process_time()
    assert isinstance(outcome(path), bytes | HyperError)
    try:
        VdiFormat().check(ImageFile.open(path))
    except HyperError:
        pass
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("stored", [False, True])
def test_the_largest_map_is_judged_within_a_second_and_256_mib(tmp_path, whole, stored):
    """64 Mi blocks: a file that claims all of them, in reverse, or whose map is a hole, so that all are block 0."""
    blocks = 64 << 20
    map_bytes = blocks * 4
    struct.pack_into("<II", whole, 0x154, 512, -(-(512 + map_bytes) // (1 << 20)) << 20)
    struct.pack_into("<QIII", whole, 0x170, blocks * BLOCK, BLOCK, 0, blocks)
    path = tmp_path / "huge.vdi"
    with path.open("wb") as file:
        file.write(whole[:512])
        if stored:
            piece = struct.pack("<I", FREE) * (1 << 18)
            for _ in range(blocks // (1 << 18) - 1):
                file.write(piece)
        file.truncate(1 << 43)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    try:
        assert isinstance(outcome(path), MalformedImage)
    finally:
        os.unlink(path)
    assert time.process_time() - started < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10

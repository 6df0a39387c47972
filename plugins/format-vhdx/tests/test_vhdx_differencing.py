"""Differencing disks by the specification: sector bitmaps, linkage, and which parents may be opened."""

from __future__ import annotations

import os
import uuid

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.errors import FailedPrecondition, HyperError, MalformedImage, NotFound, PermissionDenied, Unsupported

MIB = 1 << 20
OURS, THEIRS = b"\xc1" * MIB, b"\xaa" * MIB


@pytest.fixture
def base(make, images):
    return images.put(make.image(3 * MIB, {0: (6, THEIRS), 1: (6, THEIRS)}), "base.vhdx")


@pytest.fixture
def child(make, images):
    """Writes a child with these blocks."""

    def build(blocks, bitmaps=None, *, size=3 * MIB, name="child.avhdx", parent=None, sector=512):
        raw = make.image(size, blocks, bitmaps=bitmaps, parent=parent or make.locator(), sector=sector)
        return images.put(raw, name)

    return build


def bitmap(*sectors: int) -> bytes:
    out = bytearray(MIB)
    for number in sectors:
        out[number // 8] |= 1 << number % 8
    return bytes(out)


@pytest.mark.parametrize("sector", [512, 4096])
def test_each_sector_comes_from_the_disk_whose_bit_says_so(make, images, child, sector):
    images.put(make.image(3 * MIB, {0: (6, THEIRS), 1: (6, THEIRS)}, sector=sector), "base.vhdx")
    owned = {1, 2, 5, 8, 16, 17, 18, 19, 20, 21, 22, 23, MIB // sector - 1, 2 * MIB // sector + 3}
    path = child({0: (7, OURS), 2: (7, OURS)}, {0: bitmap(*owned)}, sector=sector)
    wanted = bytearray(THEIRS + THEIRS + bytes(MIB))
    for number in owned:
        wanted[number * sector : (number + 1) * sector] = OURS[:sector]
    assert images.read(path, chain="on") == wanted
    with images.open(path, chain="on") as source:
        for offset, length in ((sector - 1, 2), (sector + 7, sector), (4 * sector, 300_000), (MIB - 1, 2)):
            part = bytearray(length)
            source.readinto(offset, memoryview(part))
            assert part == wanted[offset : offset + length]
            ranges = list(source.file_ranges(offset, length))
            assert b"".join(os.pread(r.fd, r.length, r.file_offset) for r in ranges) == part
        holds_data = [(e.offset, e.length) for e in source.extents(2 * MIB) if e.kind is ExtentKind.DATA]
        assert holds_data == [(2 * MIB + 3 * sector, sector)]


def test_states_other_than_not_present_hide_the_parent(images, base, child):
    for state in (1, 2, 3):
        assert images.read(child({0: (state, b"")}), chain="on") == bytes(MIB) + THEIRS + bytes(MIB)
    assert images.read(child({0: (0, b""), 1: (6, OURS)}), chain="on") == THEIRS + OURS + bytes(MIB)


def test_a_child_longer_than_its_parent_reads_zeros_behind_it(images, base, child):
    with images.open(child({3: (6, OURS)}, size=5 * MIB), chain="on") as source:
        assert source.size == 5 * MIB
        assert source.file_ranges(2 * MIB, 2 * MIB) is None
    wanted = THEIRS + THEIRS + bytes(MIB) + OURS + bytes(MIB)
    assert images.read(child({3: (6, OURS)}, size=5 * MIB), chain="on") == wanted


def test_a_chain_of_three_is_read_and_told(make, images, base, child):
    child({1: (7, b"\x33" * MIB)}, {0: bitmap(*range(2048, 2052))}, name="middle.avhdx")
    top = child({0: (6, OURS)}, parent=make.locator("middle.avhdx"))
    assert images.read(top, chain="on") == OURS + b"\x33" * 2048 + THEIRS[2048:] + bytes(MIB)
    with images.open(top, chain="on") as source:
        info = source.info()
        assert info["subformat"] == "differencing"
        assert info["backing_file"] == "middle.avhdx"
        assert info["backing"]["backing"]["subformat"] == "dynamic"
        assert info["details"]["parent_locator"]["relative_path"] == "middle.avhdx"


def test_a_chunk_without_its_bitmap_is_refused(images, base, child):
    with pytest.raises(MalformedImage) as caught:
        images.read(child({0: (7, OURS)}), chain="on")
    assert caught.value.structure == "BAT entry of sector bitmap 0"


def test_partially_present_blocks_without_a_parent_are_refused(make, images):
    with pytest.raises(MalformedImage, match="state 7"):
        images.read(images.put(make.image(MIB, {0: (7, OURS)}, bitmaps={})))


def test_it_is_refused_unless_the_chain_is_asked_for_and_off_gives_information_alone(images, base, child):
    path = child({0: (6, OURS)})
    with pytest.raises(FailedPrecondition) as caught:
        images.open(path)
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    assert caught.value.metadata["parent"] == ".\\base.vhdx"
    with images.open(path, chain="off") as source:
        assert source.info()["backing_file"] == ".\\base.vhdx"
        for use in (
            lambda: source.readinto(0, memoryview(bytearray(1))), source.extents, lambda: source.file_ranges(0, 1)
        ):  # fmt: skip
            with pytest.raises(FailedPrecondition):
                use()


def test_a_parent_that_has_changed_since_is_refused(make, images, child):
    other = uuid.UUID(int=5)
    headers = (make.header(1), make.header(2, data_guid=other))
    images.put(make.image(3 * MIB, {}, headers=headers), "base.vhdx")
    with pytest.raises(FailedPrecondition) as caught:
        images.read(child({}), chain="on")
    assert caught.value.reason == "PARENT_MISMATCH"
    second = make.locator(linkage="{00000000-0000-0000-0000-000000000001}", parent_linkage2=f"{{{other}}}")
    assert images.read(child({}, parent=second), chain="on") == bytes(3 * MIB)


@pytest.mark.parametrize("path", ["..\\base.vhdx", "sub\\base.vhdx", "C:\\base.vhdx", "/etc/passwd", "..", "json:{}"])
def test_a_parent_that_is_no_plain_name_is_refused(make, images, child, path):
    with pytest.raises(PermissionDenied) as caught:
        images.read(child({}, parent=make.locator(path)), chain="on")
    assert caught.value.reason == "REFERENCE_REFUSED"


def test_absolute_paths_are_never_followed(make, images, base, child):
    for key in ("absolute_win32_path", "volume_path"):
        with pytest.raises(PermissionDenied, match="absolute"):
            images.read(child({}, parent=make.locator(None, **{key: str(base)})), chain="on")


def test_links_and_missing_parents_are_refused(make, images, base, child, tmp_path):
    (tmp_path / "link.vhdx").symlink_to("base.vhdx")
    with pytest.raises(HyperError):
        images.read(child({}, parent=make.locator("link.vhdx")), chain="on")
    with pytest.raises(NotFound) as caught:
        images.read(child({}, parent=make.locator("gone.vhdx")), chain="on")
    assert caught.value.reason == "REFERENCED_FILE_MISSING"


def test_a_chain_in_a_circle_is_refused(make, images, child):
    child({}, name="base.vhdx", parent=make.locator("child.avhdx"))
    with pytest.raises(MalformedImage) as caught:
        images.read(child({}), chain="on")
    assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


def test_a_parent_of_other_sectors_is_refused(make, images, base, child):
    with pytest.raises(MalformedImage) as caught:
        images.read(child({}, sector=4096), chain="on")
    assert caught.value.reason == "IMAGE_CHAIN_IMPOSSIBLE"


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:10],
        lambda raw: raw[:18] + b"\xff\xff" + raw[20:],
        lambda raw: raw[:20] + b"\xff" * 8 + raw[28:],
        lambda raw: raw.replace("parent_linkage".encode("utf-16-le"), "qarent_linkage".encode("utf-16-le")),
        lambda raw: raw.replace("relative_path".encode("utf-16-le"), b"\x00\xd8" * 13),
    ],
    ids=["short", "too many entries", "outside", "no linkage", "not UTF-16"],
)  # fmt: skip
def test_a_damaged_locator_is_named(make, images, child, damage):
    with pytest.raises(MalformedImage) as caught:
        images.open(child({}, parent=damage(make.locator())))
    assert caught.value.structure == "parent locator"


def test_a_locator_of_another_kind_is_refused(make, images, child):
    with pytest.raises(Unsupported) as caught:
        images.open(child({}, parent=b"x" * 16 + make.locator()[16:]))
    assert caught.value.reason == "FEATURE_UNSUPPORTED"


def test_check_counts_bitmaps_and_finds_those_that_are_a_blocks(make, images, child):
    good = child({0: (7, OURS)}, {0: bitmap(1)})
    assert (images.check(good).corruptions, images.check(good).leaks) == (0, 0)
    whole = child({0: (6, OURS)}, {0: bitmap(1)}, name="whole.avhdx")
    assert (images.check(whole).corruptions, images.check(whole).leaks) == (0, 0), "a bitmap no longer needed"
    raw = bytearray(good.read_bytes())
    at = make.bat_at + 8 * (1 << 12)
    raw[at : at + 8] = (make.payload_at | 6).to_bytes(8, "little")
    assert images.check(images.put(bytes(raw))).corruptions == 1
    raw[at : at + 8] = bytes(8)
    assert images.check(images.put(bytes(raw))).corruptions == 1

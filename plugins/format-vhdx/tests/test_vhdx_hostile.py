"""Hostile and damaged images: a typed error that names the structure, or the right bytes, soon, and nothing else."""

from __future__ import annotations

import struct
import tempfile
import time
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import HyperError, MalformedImage, Unsupported
from hypersdk_format_vhdx import VhdxFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
FORMAT = VhdxFormat()
DATA = bytes(range(1, 256)) * 4112 + b"tail" * 4
SIZE = 3 * MIB


@pytest.fixture(scope="module")
def sound() -> bytes:
    """An image of ours: a block of data, a block of zeros, half a block of data."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.vhdx"
        with ImageFile.create(path) as file:
            sink = FORMAT.create(file, SIZE, {"block_size": "1M"})
            sink.write(0, DATA[:MIB])
            sink.write(2 * MIB, DATA[: MIB // 2])
            sink.finish()
        return path.read_bytes()


def use(image: bytes) -> bytes:
    """Everything a user does with an image: look, map, read (at most 4 MiB), check; in a second each."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.vhdx"
        path.write_bytes(image)
        started = time.process_time()
        try:
            with FORMAT.open(ImageFile.open(path)) as source:
                source.info()
                for count, extent in enumerate(source.extents()):
                    assert 0 <= extent.offset < extent.end <= source.size
                    if count > 10_000:
                        break
                buffer = bytearray(min(source.size, 4 * MIB))
                source.readinto(0, memoryview(buffer))
            with ImageFile.open(path) as file:
                FORMAT.check(file)
        finally:
            assert time.process_time() - started < 2.0
        return bytes(buffer)


def patched(image: bytes, offset: int, data: bytes) -> bytes:
    return image[:offset] + data + image[offset + len(data) :]


def resummed(make, image: bytes) -> bytes:
    """With the checksums of headers and region tables put right again."""
    for at, length in ((65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536)):
        image = patched(image, at, make.summed(image[at : at + length]))
    return image


def test_the_untouched_image_reads_right(sound):
    assert use(sound) == DATA[:MIB] + bytes(MIB) + DATA[: MIB // 2] + bytes(MIB // 2)


@settings(
    max_examples=120, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    place=st.sampled_from([(65536, 80), (131072, 80), (196608, 80), (262144, 80), (2 * MIB, 192), (2 * MIB + 65536, 40),
                           (3 * MIB, 24)]),
    where=st.integers(0, 191), data=st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\xff" * 8)),
)  # fmt: skip
def test_any_damage_behind_right_checksums_gives_a_typed_error_or_bytes(sound, make, place, where, data):
    start, length = place
    try:
        use(resummed(make, patched(sound, start + where % length, data)))
    except HyperError as exc:
        assert exc.reason not in {"INTERNAL", "UNEXPECTED_EXCEPTION"}
        assert exc.message


def test_truncation_anywhere_is_a_typed_error_and_never_wrong_bytes(sound):
    wanted = use(sound)
    cuts = {0, 7, 8, 519, 520, 65535, 65536, 69631, 131072, 135168, 196608, 262143, 262144, 327679, 327680, 2 * MIB}
    cuts |= set(range(MIB, len(sound), 333_333)) | {len(sound) - 1, len(sound) - MIB, len(sound) - MIB // 2}
    for length in sorted(cuts):
        try:
            assert use(sound[:length]) == wanted, f"wrong bytes when cut at {length}"
        except MalformedImage as exc:
            assert exc.structure, f"cut at {length}: {exc.message}"


def test_one_damaged_header_or_region_table_is_survived_and_told(make, images, sound):
    for at, what in ((65536, "copy 1 of the header"), (131072, "copy 2 of the header"),
                     (196608, "copy 1 of the region table"), (262144, "copy 2 of the region table")):  # fmt: skip
        path = images.put(patched(sound, at + 100, b"\x01"))
        assert images.read(path) == use(sound)
        report = images.check(path)
        assert report.corruptions == 0
        assert what in report.messages[0]


@pytest.mark.parametrize(("pair", "structure"), [((65536, 131072), "header"), ((196608, 262144), "region table")])
def test_two_damaged_copies_are_refused(images, sound, pair, structure):
    for at in pair:
        sound = patched(sound, at + 100, b"\x01")
    with pytest.raises(MalformedImage) as caught:
        use(sound)
    assert caught.value.structure == structure
    assert caught.value.offset == pair[0]


def test_of_two_headers_the_later_counts_wherever_it_lies(make, images):
    for first, second in ((9, 8), (8, 9)):
        path = images.put(make.image(MIB, {}, headers=(make.header(first), make.header(second))))
        with images.open(path) as source:
            assert source.info()["details"]["header_sequence"] == 9
    same = make.image(MIB, {}, headers=(make.header(5), make.header(5)))
    assert images.read(images.put(same)) == bytes(MIB)
    with pytest.raises(MalformedImage, match="differ"):
        use(make.image(MIB, {}, headers=(make.header(5), make.header(5, log_length=2 * MIB))))


@pytest.mark.parametrize(
    ("fields", "structure"),
    [
        ({"log_offset": 4096}, "header"), ({"log_offset": 0}, "header"), ({"log_length": 5}, "header"),
        ({"log_offset": 1 << 62}, "header"), ({"log_offset": 2 * MIB}, "metadata region"),
    ],
)  # fmt: skip
def test_impossible_logs_are_refused(make, fields, structure):
    with pytest.raises(MalformedImage) as caught:
        use(make.image(MIB, {}, headers=(make.header(1), make.header(2, **fields))))
    assert caught.value.structure in {structure, "log"}


def test_another_version_and_unknown_required_parts_are_refused_by_name(make, images):
    unknown = "12345678-1234-1234-1234-123456789abc"
    items = make.metadata_items(MIB, MIB, 512, None)
    for image, reason in (
        (make.image(MIB, {}, headers=(make.header(1), make.header(2, version=2))), "VERSION_UNSUPPORTED"),
        (make.image(MIB, {}, regions=(make.bat_entry, make.metadata_entry, (unknown, 9 * MIB, MIB, 1))),
         "FEATURE_UNSUPPORTED"),
        (make.image(MIB, {}, items=[*items, (unknown, 4, b"x")]), "FEATURE_UNSUPPORTED"),
        (make.image(MIB, {}, items=[*items, (unknown, 5, b"x")]), "FEATURE_UNSUPPORTED"),
    ):  # fmt: skip
        with pytest.raises(Unsupported) as caught:
            use(image)
        assert caught.value.reason == reason
    with images.open(images.put(make.image(MIB, {}, items=[*items, (unknown, 1, b"x")]))) as source:
        assert source.info()["details"]["unknown_metadata"] == [unknown]


@pytest.mark.parametrize(
    "regions",
    [
        lambda m: [m.bat_entry], lambda m: [m.metadata_entry], lambda m: [m.bat_entry, m.bat_entry, m.metadata_entry],
        lambda m: [(m.bat_entry[0], 2 * MIB, 2 * MIB, 1), m.metadata_entry],
        lambda m: [(m.bat_entry[0], 3 * MIB, MIB + 1, 1), m.metadata_entry],
        lambda m: [(m.bat_entry[0], 3 * MIB + 7, MIB, 1), m.metadata_entry],
        lambda m: [(m.bat_entry[0], 0, MIB, 1), m.metadata_entry],
        lambda m: [(m.bat_entry[0], 1 << 62, MIB, 1), m.metadata_entry],
        lambda m: [(m.bat_entry[0], 3 * MIB, 0, 1), m.metadata_entry],
    ],
    ids=["no metadata", "no BAT", "two BATs", "overlap", "length", "offset", "in the header", "far", "empty"],
)  # fmt: skip
def test_impossible_regions_are_refused(make, regions):
    with pytest.raises(MalformedImage) as caught:
        use(make.image(MIB, {}, regions=regions(make)))
    assert "region" in caught.value.structure


@pytest.mark.parametrize(
    ("number", "value", "structure"),
    [
        (0, struct.pack("<II", 0, 0), "file parameters"), (0, struct.pack("<II", 3 * MIB, 0), "file parameters"),
        (0, struct.pack("<II", 512 * MIB, 0), "file parameters"), (0, struct.pack("<II", MIB, 2), "metadata table"),
        (0, b"1234", "file parameters"), (1, struct.pack("<Q", 513), "virtual disk size"),
        (1, bytes(8), "virtual disk size"), (1, struct.pack("<Q", (64 << 40) + 512), "virtual disk size"),
        (1, struct.pack("<Q", 1 << 40), "BAT region"), (3, struct.pack("<I", 1024), "logical sector size"),
        (4, struct.pack("<I", 0), "physical sector size"), (1, None, "metadata table"),
    ],
)  # fmt: skip
def test_impossible_metadata_are_refused(make, number, value, structure):
    items = make.metadata_items(MIB, MIB, 512, None)
    guid, flags, _ = items[number]
    items[number : number + 1] = [] if value is None else [(guid, flags, value)]
    with pytest.raises(MalformedImage) as caught:
        use(make.image(MIB, {}, items=items))
    assert caught.value.structure == structure
    assert caught.value.offset is not None


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (4, "state 4"), (5, "state 5"), (7 | 4 * MIB, "state 7"), (6 | 4 * MIB | 8, "reserved"), (6, "no payload"),
        (6 | MIB, "no payload"), (6 | 3 * MIB, "no payload"), (6 | 1 << 40, "ends"), (6 | (1 << 64) - MIB, "ends"),
    ],
)  # fmt: skip
def test_impossible_entries_are_refused_and_counted(make, images, entry, what):
    image = patched(make.image(MIB, {0: (6, DATA[:MIB])}), make.bat_at, struct.pack("<Q", entry))
    with pytest.raises(MalformedImage, match=what) as caught:
        use(image)
    assert caught.value.structure == "BAT entry of block 0"
    assert caught.value.offset == make.bat_at
    assert images.check(images.put(image)).corruptions == 1


def test_check_finds_blocks_that_share_a_place_and_space_that_nothing_uses(make, images):
    image = make.image(4 * MIB, {0: (6, b"a"), 1: (6, b"b"), 2: (6, b"c")})
    twice = patched(image, make.bat_at + 16, image[make.bat_at : make.bat_at + 8])
    report = images.check(images.put(twice))
    assert (report.corruptions, report.leaks, report.allocated_units) == (1, 1, 3)
    trimmed = patched(image, make.bat_at + 8, struct.pack("<Q", make.payload_at + MIB | 3))
    assert (images.check(images.put(trimmed)).corruptions, images.check(images.put(trimmed)).leaks) == (0, 0)
    lost = patched(image, make.bat_at + 8, bytes(8))
    report = images.check(images.put(lost))
    assert (report.corruptions, report.leaks, report.details["leaked_bytes"]) == (0, 1, MIB)


@pytest.mark.parametrize("dirty", [False, True])
def test_a_table_of_64_tib_of_which_nothing_is_stored_costs_nothing(make, images, dirty):
    """512 MiB of block allocation table, all of it a hole of the file; some of it zeroed by the log."""
    items = make.metadata_items(64 << 40, MIB, 512, None)
    regions = [(make.bat_entry[0], 3 * MIB, 520 * MIB, 1), make.metadata_entry]
    log = make.log_entry(1, 0, [(200 * MIB, 4096), (300 * MIB, bytes(4096))]) if dirty else b""
    path = images.put(make.image(64 << 40, {}, regions=regions, items=items, log=log))
    with path.open("r+b") as file:
        file.truncate(600 * MIB)
    started = time.process_time()
    with images.open(path) as source:
        assert [(e.offset, e.length) for e in source.extents()] == [(0, 64 << 40)]
    assert images.check(path).corruptions == 0
    assert time.process_time() - started < 1.0


def test_pieces_of_a_copy_do_not_grow_with_the_blocks(make, images):
    items = make.metadata_items(256 * MIB, 256 * MIB, 512, None)
    with images.open(images.put(make.image(256 * MIB, {}, items=items))) as source:
        assert source.granularity <= MIB
        assert source.info()["cluster_size"] == 256 * MIB

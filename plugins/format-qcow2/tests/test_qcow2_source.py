"""Qcow2Source over images of our own writing: reads at any place, threads, ranges, extents."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.errors import InvalidArgument, OutOfRange

SIZE = 3 * (1 << 20) + 512
LAYOUTS = [
    {"cluster_size": "512"}, {}, {"compress": "on"}, {"compress": "on", "cluster_size": "512"},
    {"compress": "on", "compression_type": "zstd", "cluster_size": "1M"}, {"extended_l2": "on", "compress": "on"},
]  # fmt: skip


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
def test_reads_at_any_place_in_several_threads_give_the_right_bytes(images, options) -> None:
    data = images.content(SIZE, 65536, seed=1)
    pick = random.Random(2)
    places = [(at, min(SIZE - at, pick.choice([1, 700, 70_000]))) for at in pick.choices(range(SIZE), k=120)]
    with images.open(images.write(data, options)) as source, ThreadPoolExecutor(4) as pool:

        def read(place: tuple[int, int]) -> bytes:
            buffer = bytearray(place[1])
            source.readinto(place[0], memoryview(buffer))
            return bytes(buffer)

        for (at, length), got in zip(places, pool.map(read, places), strict=True):
            assert got == data[at : at + length]


def test_stale_bytes_of_the_buffer_are_overwritten_where_the_disk_is_empty(images) -> None:
    with images.open(images.write(bytes(SIZE))) as source:
        buffer = bytearray(b"x" * SIZE)
        source.readinto(0, memoryview(buffer))
        assert not any(buffer)


def test_extents_of_a_part_begin_and_end_where_it_does(images) -> None:
    data = bytes(1 << 20) + b"x" * (1 << 20) + bytes(1 << 20)
    with images.open(images.write(data)) as source:
        assert list(source.extents(100, (2 << 20) - 50)) == [
            (100, (1 << 20) - 100, ExtentKind.ZERO),
            (1 << 20, 1 << 20, ExtentKind.DATA),
            (2 << 20, 50, ExtentKind.ZERO),
        ]
        assert list(source.extents(5, 0)) == []


def test_compressed_data_has_no_file_ranges(images) -> None:
    path = images.write(b"text " * 200_000, {"compress": "on"})
    with images.open(path) as source:
        assert source.file_ranges(0, 65536) is None


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (SIZE, 1), (SIZE - 1, 2), (1 << 70, 1)])
def test_reads_past_the_end_are_out_of_range(images, offset, length) -> None:
    with images.open(images.write(bytes(SIZE))) as source:
        with pytest.raises(OutOfRange):
            source.readinto(offset, memoryview(bytearray(length)))
        with pytest.raises(OutOfRange):
            list(source.extents(offset, length))


@pytest.mark.parametrize("options", [{"no_such": "on"}, {"chain": "perhaps"}])
def test_unknown_ways_to_open_are_refused(images, options) -> None:
    path = images.write(bytes(512))
    with pytest.raises(InvalidArgument):
        images.open(path, **options)


def test_probe_knows_its_magic_and_versions(images) -> None:
    probe = images.format.probe
    assert probe(images.write(bytes(512)).read_bytes()[:4096], b"", 1) == 100
    assert probe(b"QFI\xfb\0\0\0\x09", b"", 8) == 50
    assert [probe(head, b"", 99) for head in (b"", b"QFI\xfb", b"QFI\xfb\0\0\0\x01", b"KDMV\0\0\0\x03")] == [0] * 4

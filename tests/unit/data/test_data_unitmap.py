"""Unit maps and the source over them, against a plain model of the same disk."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib

import numpy as np
import pytest
from hypersdk.data import twolevel
from hypersdk.data.backing import MAX_CHAIN
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer, open_layers
from hypersdk.data.twolevel import TwoLevel
from hypersdk.data.unitcodecs import DecodeError, bunzip2, inflate_raw, inflate_zlib, unxz
from hypersdk.data.unitmap import CODED, HOLE, PLAIN, ZERO, Bounds, Entries, PagedMap, Units, WholeMap
from hypersdk.data.unitsource import UnitSource
from hypersdk.errors import MalformedImage
from hypersdk.testing import PatternSource
from hypothesis import given, settings
from hypothesis import strategies as st

UNIT = 512


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -12)
    return stream.compress(data) + stream.flush()


def reverse(blob: bytes, length: int) -> bytes:
    assert len(blob) == length
    return blob[::-1]


def make(path, kinds: list[int], tail: int, *, page_units: int = 4, tables=None, backing=None):
    """A file of units in descending order and the disk it makes; `tail` bytes are missing of the last unit."""
    size = len(kinds) * UNIT - tail
    blob, disk = b"head", b""
    places = np.zeros(len(kinds), np.uint64)
    below = bytearray(size + UNIT)
    if backing is not None:
        backing.readinto(0, memoryview(below)[: backing.size])
    for number in reversed(range(len(kinds))):
        kind = kinds[number]
        data = bytes((number * 7 + at) % 251 + 1 for at in range(UNIT))
        if kind >= PLAIN:
            places[number] = len(blob)
            blob += data if kind == PLAIN else data[::-1]
        elif kind == HOLE:
            data = bytes(below[number * UNIT : (number + 1) * UNIT])
        else:
            data = bytes(UNIT)
        disk = data + disk
    path.write_bytes(blob)
    array, file = np.array(kinds, np.uint8), ImageFile.open(path)
    stored = np.where(array >= CODED, np.uint64(UNIT), np.uint64(0))

    def load(first: int, count: int) -> Entries:
        part = slice(first, first + count)
        return Entries(array[part], places[part], stored[part])

    units = PagedMap(Bounds(file, size, 4), UNIT, load, page_units=page_units, **(tables or {}))
    source = UnitSource(file, units, size=size, granularity=UNIT, info={}, decoders=(reverse,), backing=backing)
    return source, disk[:size]


def read(source, offset: int, length: int) -> bytes:
    buffer = bytearray(b"\xa5" * length)
    source.readinto(offset, memoryview(buffer))
    return bytes(buffer)


@settings(max_examples=150, deadline=None)
@given(
    kinds=st.lists(st.sampled_from([HOLE, ZERO, PLAIN, PLAIN, CODED]), min_size=1, max_size=24),
    tail=st.integers(0, UNIT - 1), below=st.integers(-1, 13000), cut=st.data(),
)  # fmt: skip
def test_any_map_reads_as_its_model_says(tmp_path_factory, kinds, tail, below, cut):
    path = tmp_path_factory.mktemp("map") / "file"
    backing = None
    if below >= 0:
        backing = PatternSource(min(below, len(kinds) * UNIT), [(0, min(below, len(kinds) * UNIT, 3000))])
    source, disk = make(path, kinds, tail, backing=backing)
    with source:
        first = cut.draw(st.integers(0, len(disk)))
        end = cut.draw(st.integers(first, len(disk)))
        assert read(source, first, end - first) == disk[first:end]
        at = first
        for extent in source.extents(first, end - first):
            assert extent.offset == at < extent.end
            at = extent.end
            if extent.kind == ExtentKind.ZERO:
                assert not any(disk[extent.offset : at])
            ranges = source.file_ranges(extent.offset, extent.length)
            if ranges is not None:
                assert sum(r.length for r in ranges) == extent.length
        assert at == end


def test_where_no_table_exists_nothing_is_loaded(tmp_path):
    asked = []
    (tmp_path / "file").write_bytes(bytes(4096))
    file = ImageFile.open(tmp_path / "file")
    size = UNIT * 8 << 30

    def load(first: int, count: int) -> Entries:
        asked.append((first, count))
        return Entries(np.full(count, PLAIN, np.uint8), np.arange(count, dtype=np.uint64) * np.uint64(UNIT))

    units = PagedMap(
        Bounds(file, size, 0), UNIT, load, page_units=4, tables=np.array([3, 1 << 29], np.int64), table_units=8
    )
    with UnitSource(file, units, size=size, granularity=UNIT, info={}) as source:
        data = [(e.offset, e.length) for e in source.extents() if e.kind]
    assert data == [(24 * UNIT, 8 * UNIT), ((8 << 29) * UNIT, 8 * UNIT)]
    assert asked == [(24, 4), (28, 4), (8 << 29, 4), ((8 << 29) + 4, 4)]


@pytest.mark.parametrize(
    ("kind", "place", "stored", "reason"),
    [
        (PLAIN, 3, 0, "IMAGE_MALFORMED"), (PLAIN, 4096 - 511, 0, "IMAGE_TRUNCATED"),
        (CODED, 4000, 97, "IMAGE_TRUNCATED"),
        (PLAIN, 2**64 - 1, 0, "IMAGE_TRUNCATED"), (CODED, 10, 2**64 - 1, "IMAGE_TRUNCATED"),
    ],
)  # fmt: skip
def test_units_outside_their_bounds_are_malformed(tmp_path, kind, place, stored, reason):
    (tmp_path / "file").write_bytes(bytes(4096))
    units = Units(
        np.array([0, UNIT], np.int64), np.array([kind], np.uint8), np.array([place], np.uint64),
        np.array([stored], np.uint64),
    )  # fmt: skip
    with ImageFile.open(tmp_path / "file") as file, pytest.raises(MalformedImage) as caught:
        WholeMap(units, Bounds(file, UNIT, 4))
    assert caught.value.reason == reason


CODECS = [(inflate_raw, deflate), (inflate_zlib, zlib.compress), (bunzip2, bz2.compress), (unxz, lzma.compress)]


@pytest.mark.parametrize(("decode", "encode"), CODECS)
@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=5000))
def test_a_decoder_gives_the_unit_and_nothing_else(decode, encode, data):
    blob = encode(data)
    assert decode(blob, len(data)) == data
    assert decode(blob + b"padding", len(data)) == data
    for length in (len(data) - 1, len(data) + 1):
        with pytest.raises(DecodeError):
            decode(blob, length)


@pytest.mark.parametrize(("decode", "encode"), CODECS)
@settings(max_examples=60, deadline=None)
@given(blob=st.binary(max_size=200), cut=st.integers(0, 60))
def test_garbage_and_cut_streams_are_decode_errors(decode, encode, blob, cut):
    for attempt in (blob, encode(bytes(range(256)) * 8)[:cut]):
        with pytest.raises(DecodeError):
            decode(attempt, 1 << 16)


@pytest.mark.parametrize(("decode", "encode"), CODECS)
def test_a_bomb_is_stopped_at_the_units_size(decode, encode):
    with pytest.raises(DecodeError, match="more than 4096"):
        decode(encode(bytes(8 << 20)), 4096)


def test_a_directory_of_more_tables_than_are_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(twolevel, "MAX_TABLES", 2)
    (tmp_path / "file").write_bytes(struct.pack("<4Q", 512, 1024, 1536, 0).ljust(4096, b"\0"))
    with ImageFile.open(tmp_path / "file") as file:
        assert TwoLevel.load(file, "<u8", 0, 2, 64).numbers.tolist() == [0, 1]
        with pytest.raises(MalformedImage, match="more L2 tables"):
            TwoLevel.load(file, "<u8", 0, 4, 64)


def test_a_chain_has_a_longest_length(tmp_path):
    """Each file names the next."""

    def parse(file: ImageFile) -> Layer:
        units = WholeMap(
            Units(np.array([0, UNIT], np.int64), np.zeros(1, np.uint8), np.zeros(1, np.uint64)), Bounds(file, UNIT, 0)
        )
        name = file.pread(0, file.size).decode()
        return Layer(units, UNIT, UNIT, {"format": "toy"}, backing_name=name or None, backing_format="toy")

    for number in range(MAX_CHAIN + 1):
        (tmp_path / f"{number}").write_text(f"{number + 1}" if number < MAX_CHAIN else "")
    with open_layers("toy", ImageFile.open(tmp_path / "1"), {"chain": "on"}, parse) as source:
        assert read(source, 0, UNIT) == bytes(UNIT)
    with pytest.raises(MalformedImage) as caught:
        open_layers("toy", ImageFile.open(tmp_path / "0"), {"chain": "on"}, parse)
    assert caught.value.reason == "BACKING_CHAIN_LOOP"

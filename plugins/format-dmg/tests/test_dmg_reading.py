"""format-dmg: the suites, and images built by the format's published layout, which qemu-img reads too."""

from __future__ import annotations

import bz2
import lzma
import plistlib
import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.unitcodecs import DecodeError
from hypersdk.errors import HyperError, MalformedImage, Unsupported
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.readonly_contract import ReadOnlyFormatContract
from hypersdk_format_dmg import DmgFormat
from hypersdk_format_dmg.adc import decode_adc
from hypothesis import given
from hypothesis import strategies as st

FORMAT = DmgFormat()
ZERO, RAW, IGNORE, ADC, ZLIB, BZIP2, LZFSE, XZ = 0, 1, 2, 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008
COMMENT, END = 0x7FFFFFFE, 0xFFFFFFFF
CHUNK = 64 << 10


def adc(data: bytes) -> bytes:
    """Literals only, with a match for runs of one byte."""
    out = bytearray()
    for at in range(0, len(data), 128):
        piece = data[at : at + 128]
        if len(piece) == 128 and len(set(piece)) == 1:
            out += bytes([0x80, piece[0], 0x40 | 63, 0, 0, 0x40 | 56, 0, 0])
        else:
            out += bytes([0x80 | len(piece) - 1]) + piece
    return bytes(out)


ENCODERS = {RAW: bytes, ADC: adc, ZLIB: zlib.compress, BZIP2: bz2.compress, XZ: lzma.compress, ZERO: lambda _: b"",
            IGNORE: lambda _: b"", LZFSE: bytes}  # fmt: skip


def piece_of(number: int, kind: int) -> bytes:
    if kind in {ZERO, IGNORE}:
        return bytes(CHUNK)
    rng = random.Random(number)
    return rng.randbytes(CHUNK // 2) + b"\x07" * (CHUNK // 2)


Chunk = tuple[int, int, int, int, int, int]


def trailer(plist_at: int, plist: bytes, sectors: int, *, data_at: int = 0, segments: int = 1, fork: int = 0) -> bytes:
    head = struct.pack(">4sIII5Q2I", b"koly", 4, 512, 1, 0, data_at, plist_at, 0, fork, 1, segments)
    return (
        head.ljust(216, b"\0") + struct.pack(">2Q", plist_at if plist else 0, len(plist))
    ).ljust(488, b"\0") + struct.pack(">IQ", 1, sectors).ljust(24, b"\0")


def build(kinds: list[int], *, tables: int = 2, skew: int = 0, blobs: dict[int, bytes] | None = None) -> bytes:
    """A chunk of 64 KiB of each kind; the blobs in descending order, behind 100 bytes of something else, which the
    trailer's data fork offset tells; `tables` partitions of the same number of chunks."""
    data_at, sectors = 100, CHUNK // 512
    data, places = b"", {}
    for number in reversed(range(len(kinds))):
        blob = (blobs or {}).get(number, ENCODERS[kinds[number]](piece_of(number, kinds[number])))
        places[number] = (len(data), len(blob))
        data += blob
    each = -(-len(kinds) // tables)
    resources = []
    for first in range(0, len(kinds), each):
        rows = b"".join(
            struct.pack(">2I4Q", kinds[n], 0, (n - first) * sectors + skew * (n == 1), sectors, *places[n])
            for n in range(first, min(first + each, len(kinds)))
        )
        count = len(rows) // 40 + 2
        rows += struct.pack(">2I4Q", COMMENT, 1, 0, 0, 0, 0) + struct.pack(">2I4Q", END, 0, 0, 0, 0, 0)
        head = struct.pack(">4sI3Q2I", b"mish", 1, first * sectors, each * sectors, 0, 0, 0).ljust(200, b"\0")
        resources.append({"Attributes": "0x0050", "Data": head + struct.pack(">I", count) + rows, "ID": "0"})
    plist = plistlib.dumps({"resource-fork": {"blkx": resources, "plst": [{"Data": bytes(99), "ID": "0"}]}})
    body = b"\xaa" * data_at + data
    return body + plist + trailer(len(body), plist, len(kinds) * sectors, data_at=data_at)


def content(kinds: list[int]) -> bytes:
    return b"".join(piece_of(number, kind) for number, kind in enumerate(kinds))


def with_plist(xml: bytes) -> bytes:
    return xml + trailer(0, xml, 128)


def put(directory: Path, image: bytes, name: str = "a.dmg") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def whole(file: ImageFile) -> bytes:
    with FORMAT.open(file) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        return bytes(found)


MIXED = [ZLIB, ZERO, BZIP2, RAW, RAW, IGNORE, XZ, ADC, ZLIB, ZLIB]


class TestDmgContract(ReadOnlyFormatContract):
    image_format = FORMAT
    tail_magic = True
    samples = {  # noqa: RUF012
        "every kind": (build(MIXED), content(MIXED)),
        "zlib": (build([ZLIB] * 4, tables=1), content([ZLIB] * 4)),
        "raw": (build([RAW, RAW, ZERO]), content([RAW, RAW, ZERO])),
    }


class TestDmgManifest(ManifestContract):
    distribution_name = "hypersdk-format-dmg"
    package = "hypersdk_format_dmg"


@pytest.mark.parametrize("kind", [ADC, ZLIB, BZIP2, XZ])
@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK + 1, 8 << 20])
def test_a_chunk_is_its_sectors_or_malformed(tmp_path, kind, length):
    """Less, a byte more, a bomb."""
    blob = ENCODERS[kind](bytes(length))[: 2 * CHUNK]
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, build([kind, RAW], blobs={0: blob})))
    assert caught.value.reason == "CLUSTER_DECOMPRESSION_FAILED"


@pytest.mark.parametrize("skew", [1, -1])
def test_tables_that_overlap_or_leave_gaps_are_malformed(tmp_path, skew):
    with pytest.raises(MalformedImage, match="do not cover"):
        whole(put(tmp_path, build([ZLIB] * 4, skew=skew)))


def test_a_raw_chunk_has_the_bytes_of_its_sectors(tmp_path):
    with pytest.raises(MalformedImage, match="two lengths"):
        whole(put(tmp_path, build([RAW, RAW], blobs={0: bytes(CHUNK - 1)})))


BOMB = b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><plist>&b;</plist>'
EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist>&a;</plist>'


@pytest.mark.parametrize(
    "xml",
    [BOMB, EXTERNAL, b"<plist>", b"", b"<plist/>", b"<plist>" + b"<dict>" * 40 + b"</dict>" * 40 + b"</plist>",
     b"<plist>" + b"<a/>" * 200_001 + b"</plist>", b"<plist " + b'a="" ' * 200_001 + b"/>",
     b"<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>###</data></dict>"
     b"</array></dict></dict></plist>",
     b"<plist><dict><key>resource-fork</key><dict><key>blkx</key><array><dict><key>Data</key><data>bWlzaA==</data>"
     b"</dict></array></dict></dict></plist>"],
    ids=["bomb", "external", "cut", "none", "empty", "deep", "wide", "attributes", "no base64", "short table"],
)  # fmt: skip
def test_hostile_property_lists_are_malformed(tmp_path, xml):
    with pytest.raises(MalformedImage):
        FORMAT.open(put(tmp_path, with_plist(xml)))


@pytest.mark.parametrize("encoding", [b"UTFE1", b"idna", b"UTF-16", b"rot13"])
def test_a_declared_encoding_is_not_followed(tmp_path, encoding):
    image = build([RAW, ZERO]).replace(b'encoding="UTF-8"', b'encoding="' + encoding + b'"')
    xml = image[image.index(b"<?xml") : -512]
    at = image.index(b"<?xml")
    with FORMAT.open(put(tmp_path, image[:at] + xml + trailer(at, xml, 2 * CHUNK // 512, data_at=100))) as source:
        assert source.size == 2 * CHUNK


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (build([LZFSE, RAW]), "CHUNK_KIND_UNSUPPORTED"),
        (b"encrcdsa" + bytes(1000), "ENCRYPTION_UNSUPPORTED"),
        (bytes(1000) + b"cdsaencr", "ENCRYPTION_UNSUPPORTED"),
        (trailer(0, b"", 8, segments=3), "LAYOUT_UNSUPPORTED"),
        (trailer(0, b"", 8, fork=700), "LAYOUT_UNSUPPORTED"),
    ],
    ids=["lzfse", "encrypted", "encrypted, old", "segmented", "resource fork"],
)
def test_what_is_not_read_is_refused_by_name(tmp_path, image, reason):
    with pytest.raises(Unsupported) as caught:
        FORMAT.open(put(tmp_path, image))
    assert caught.value.reason == reason


@given(st.binary(max_size=2000), st.integers(0, 4000))
def test_adc_gives_its_length_or_a_typed_error(blob, length):
    try:
        assert len(decode_adc(blob, length)) == length
    except DecodeError as exc:
        assert str(exc)


@given(st.binary(min_size=1, max_size=2000))
def test_adc_decodes_what_was_encoded(data):
    assert decode_adc(adc(data), len(data)) == data


@given(st.binary(max_size=600))
def test_any_property_list_gives_a_typed_error(tmp_path_factory, xml):
    file = put(tmp_path_factory.mktemp("plist"), with_plist(xml))
    with pytest.raises(HyperError) as caught:
        FORMAT.open(file)
    assert caught.value.reason != "INTERNAL"


def qemu_img(*args: object) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
def test_qemu_img_reads_our_samples_as_we_do(tmp_path):
    """Without bzip2, xz and ADC, which its basic package does not read."""
    kinds = [ZLIB, RAW, ZERO, IGNORE, ZLIB, RAW]
    put(tmp_path, build(kinds)).close()
    qemu_img("convert", "-f", "dmg", "-O", "raw", tmp_path / "a.dmg", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == whole(ImageFile.open(tmp_path / "a.dmg")) == content(kinds)

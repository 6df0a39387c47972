"""format-cloop: the suites, and images built by the format's published layout, which qemu-img reads too."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.readonly_contract import ReadOnlyFormatContract
from hypersdk_format_cloop import CloopFormat

FORMAT = CloopFormat()
PREAMBLE = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"


def content(block: int, count: int = 9) -> bytes:
    parts = []
    for number in range(count):
        rng = random.Random(number)
        parts.append((bytes(block), rng.randbytes(block), (b"text %d " % number * block)[:block])[number % 3])
    return b"".join(parts)


def build(block: int, blobs: list[bytes] | None = None, *, gap: int = 0) -> bytes:
    disk = content(block)
    blobs = blobs or [zlib.compress(disk[at : at + block]) for at in range(0, len(disk), block)]
    at = 136 + 8 * (len(blobs) + 1) + gap
    offsets = [at]
    for blob in blobs:
        offsets.append(offsets[-1] + len(blob))
    table = struct.pack(f">2I{len(offsets)}Q", block, len(blobs), *offsets)
    return PREAMBLE.ljust(128, b"\0") + table + bytes(gap) + b"".join(blobs)


def put(directory: Path, image: bytes, name: str = "a.cloop") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def word(image: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return image[:offset] + value.to_bytes(size, "big") + image[offset + size :]


def whole(file: ImageFile) -> bytes:
    with FORMAT.open(file) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        return bytes(found)


class TestCloopContract(ReadOnlyFormatContract):
    image_format = FORMAT
    samples = {  # noqa: RUF012
        "64 KiB": (build(65536), content(65536)),
        "7 sectors": (build(3584, gap=40), content(3584)),
    }


class TestCloopManifest(ManifestContract):
    distribution_name = "hypersdk-format-cloop"
    package = "hypersdk_format_cloop"


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(0, 1, 65), (128, 4, 0), (128, 4, 1000), (128, 4, 1 << 30), (132, 4, 0xFFFFFFFF), (132, 4, 100_000),
     (136, 8, 0), (136, 8, 1 << 63), (144, 8, 1), (144, 8, 2**64 - 1), (208, 8, 1 << 40)],
)  # fmt: skip
def test_impossible_fields_are_malformed_and_named(tmp_path, offset, size, value):
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, word(build(65536), offset, value, size)))
    assert caught.value.structure


@pytest.mark.parametrize("data", [bytes(65537), bytes(16 << 20), bytes(65535), b""])
def test_a_block_is_one_block_or_malformed(tmp_path, data):
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, build(65536, [zlib.compress(bytes(65536)), zlib.compress(data)])))
    assert caught.value.reason == "CLUSTER_DECOMPRESSION_FAILED"


def test_a_wrong_checksum_is_found(tmp_path):
    blob = zlib.compress(content(65536)[65536:131072])
    with pytest.raises(MalformedImage):
        whole(put(tmp_path, build(65536, [blob[:-1] + bytes([blob[-1] ^ 1])])))


def test_an_image_without_blocks_is_an_empty_disk(tmp_path):
    image = PREAMBLE.ljust(128, b"\0") + struct.pack(">2IQ", 65536, 0, 144)
    with FORMAT.open(put(tmp_path, image)) as source:
        assert (source.size, list(source.extents())) == (0, [])


def qemu_img(*args: object) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize("block", [512, 3584, 65536, 1 << 20])
def test_qemu_img_reads_our_samples_as_we_do(tmp_path, block):
    image = build(block)
    put(tmp_path, image).close()
    qemu_img("convert", "-f", "cloop", "-O", "raw", tmp_path / "a.cloop", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == whole(ImageFile.open(tmp_path / "a.cloop")) == content(block)

"""format-qcow: the suites, images built by the format's description, and images that qemu-img wrote."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage, Unsupported
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.readonly_contract import ReadOnlyFormatContract
from hypersdk_format_qcow import QcowFormat

FORMAT = QcowFormat()
CLUSTER = 4096
TEXT = b"compressible, like most of a disk; "


def cluster_of(number: int) -> bytes:
    if number % 5 == 0:
        return bytes(CLUSTER)
    if number % 2:
        return random.Random(number).randbytes(CLUSTER)
    return (b"%d " % number + TEXT * CLUSTER)[:CLUSTER]


CONTENT = b"".join(map(cluster_of, range(70))) + b"end!" * 128


def deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    return stream.compress(data) + stream.flush()


def build(
    content: bytes = CONTENT, *, compress: bool = False, crypt: int = 0, name: bytes = b"", l2_bits: int = 6
) -> bytes:
    """Clusters in descending order, 2^`l2_bits` entries a table, so that there are two tables."""
    clusters = [content[at : at + CLUSTER].ljust(CLUSTER, b"\0") for at in range(0, len(content), CLUSTER)]
    entries = 1 << l2_bits
    tables = -(-len(clusters) // entries)
    l1_offset = 1024
    l2_offset = l1_offset + 8 * tables
    start = -(-(l2_offset + 8 * tables * entries) // 512) * 512
    words, data, at = [0] * (tables * entries), b"", start
    for index in reversed(range(len(clusters))):
        blob, flags = clusters[index], 0
        if not any(blob):
            continue
        if compress and len(deflate(blob)) < CLUSTER:
            blob = deflate(blob)
            flags = 1 << 63 | len(blob) << (63 - 12)
        gap = 0 if flags else -at % 512  # QEMU reads stored clusters at multiples of a sector only
        words[index] = flags | at + gap
        data += bytes(gap) + blob
        at += gap + len(blob)
    head = struct.pack(
        ">4sIQIIQBB2xIQ", b"QFI\xfb", 1, 48 if name else 0, len(name), 0, len(content), 12, l2_bits, crypt, l1_offset
    )
    l1 = struct.pack(f">{tables}Q", *(l2_offset + 8 * entries * n for n in range(tables)))
    l2 = struct.pack(f">{len(words)}Q", *words)
    return ((head + name).ljust(l1_offset, b"\0") + l1 + l2).ljust(start, b"\0") + data


def put(directory: Path, image: bytes, name: str = "a.qcow") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def word(image: bytes, offset: int, value: int, size: int) -> bytes:
    return image[:offset] + value.to_bytes(size, "big") + image[offset + size :]


def whole(file: ImageFile, **options: str) -> bytes:
    with FORMAT.open(file, options) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        return bytes(found)


class TestQcowContract(ReadOnlyFormatContract):
    image_format = FORMAT
    samples = {"plain": (build(), CONTENT), "compressed": (build(compress=True), CONTENT)}  # noqa: RUF012


class TestQcowManifest(ManifestContract):
    distribution_name = "hypersdk-format-qcow"
    package = "hypersdk_format_qcow"


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(24, 8, 0), (24, 8, 1 << 63), (24, 8, 1 << 61), (32, 1, 8), (32, 1, 17), (33, 1, 5), (33, 1, 14), (40, 8, 0),
     (40, 8, 1 << 63), (1024, 8, 1 << 62), (1024, 8, 2**64 - 1), (1024, 8, 1040 + 512), (1040 + 8, 8, 16),
     (1040 + 8, 8, 1 << 50)],
)  # fmt: skip
def test_impossible_fields_are_malformed_and_named(tmp_path, offset, size, value):
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, word(build(), offset, value, size)))
    assert caught.value.structure


@pytest.mark.parametrize(
    "data", [deflate(bytes(CLUSTER + 1)), deflate(bytes(1 << 20)), deflate(b"short"), b"\xff" * 30]
)
def test_a_compressed_cluster_is_one_cluster_or_malformed(tmp_path, data):
    """One that gives a byte more, or a bomb, or less, or is no stream."""
    image = word(build(), 1040 + 8, 1 << 63 | len(data) << 51 | len(build()), 8) + data
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, image))
    assert caught.value.reason == "CLUSTER_DECOMPRESSION_FAILED"


def test_encryption_is_refused_and_later_versions_are_left_to_qcow2(tmp_path):
    for image, reason in (
        (build(crypt=1), "ENCRYPTION_UNSUPPORTED"),
        (word(build(), 4, 2, 4), "VERSION_UNSUPPORTED"),
    ):
        with pytest.raises(Unsupported) as caught:
            FORMAT.open(put(tmp_path, image))
        assert caught.value.reason == reason
    assert FORMAT.probe(b"QFI\xfb\0\0\0\2", b"", 100) == 0


def test_a_backing_file_needs_consent_and_the_name_of_its_format(tmp_path):
    (tmp_path / "base.img").write_bytes(b"\x55" * (20 * CLUSTER + 100))
    image = build(name=b"base.img")
    for options, reason in (({}, "IMAGE_HAS_PARENT"), ({"chain": "on"}, "BACKING_FORMAT_UNKNOWN")):
        with pytest.raises(FailedPrecondition) as caught:
            FORMAT.open(put(tmp_path, image), options)
        assert caught.value.reason == reason
    wanted = bytearray(CONTENT)
    for cluster in range(0, 20, 5):
        wanted[cluster * CLUSTER : (cluster + 1) * CLUSTER] = b"\x55" * CLUSTER
    wanted[20 * CLUSTER : 20 * CLUSTER + 100] = b"\x55" * 100
    assert whole(put(tmp_path, image), chain="on", backing_fmt="raw") == wanted


def test_a_chain_of_three_reads_through(tmp_path):
    put(tmp_path, build(CONTENT[: 30 * CLUSTER]), "c.qcow").close()
    put(tmp_path, build(bytes(60 * CLUSTER), name=b"c.qcow"), "b.qcow").close()
    found = whole(put(tmp_path, build(bytes(50 * CLUSTER), name=b"b.qcow")), chain="on", backing_fmt="qcow")
    assert found == CONTENT[: 30 * CLUSTER] + bytes(20 * CLUSTER)


def run(tool: str, *args: object) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is missing; Debian has it in qemu-utils")
    subprocess.run([tool, *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize("compress", [False, True])
def test_qemu_img_reads_our_samples_as_we_do(tmp_path, compress):
    image = build(compress=compress, l2_bits=9)
    put(tmp_path, image + bytes(-len(image) % 512)).close()
    run("qemu-img", "convert", "-f", "qcow", "-O", "raw", tmp_path / "a.qcow", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == CONTENT


@pytest.mark.peer
def test_images_of_qemu_img_read_byte_for_byte(tmp_path):
    disk = bytearray((9 << 20) + 512)
    rng = random.Random(7)
    for _ in range(12):
        at = rng.randrange(0, len(disk) - 200_000)
        disk[at : at + 150_000] = rng.randbytes(150_000)
    disk[-512:] = b"\x99" * 512
    (tmp_path / "raw").write_bytes(disk)
    run("qemu-img", "convert", "-O", "qcow", tmp_path / "raw", tmp_path / "a.qcow")
    assert whole(ImageFile.open(tmp_path / "a.qcow")) == disk


@pytest.mark.peer
def test_compressed_clusters_and_an_overlay_by_qemu_io_read_byte_for_byte(tmp_path):
    """`qemu-img convert -c -O qcow` of QEMU 7.2 ends with status 1; qemu-io's compressed writes work."""
    base, top = tmp_path / "base.qcow", tmp_path / "top.qcow"
    run("qemu-img", "create", "-f", "qcow", base, 1 << 20)
    writes = []
    for number in range(1, 70, 2):
        (tmp_path / f"{number}").write_bytes(cluster_of(number + number % 3))
        writes += ["-c", f"write -c -s {tmp_path / str(number)} {number * CLUSTER} {CLUSTER}"]
    run("qemu-io", "-f", "qcow", *writes, "-c", "write -P 9 500000 1000", base)
    run("qemu-img", "create", "-f", "qcow", "-F", "qcow", "-b", "base.qcow", top, 1 << 20)
    run("qemu-io", "-f", "qcow", "-c", "write -P 3 10000 9000", top)
    for path in (base, top):
        run("qemu-img", "convert", "-f", "qcow", "-O", "raw", path, tmp_path / "raw")
        assert whole(ImageFile.open(path), chain="on", backing_fmt="qcow") == (tmp_path / "raw").read_bytes()

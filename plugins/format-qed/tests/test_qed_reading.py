"""format-qed: the suites, images built by the specification, and images that qemu-img wrote."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage, Unsupported
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.readonly_contract import ReadOnlyFormatContract
from hypersdk_format_qed import QedFormat

FORMAT = QedFormat()
CLUSTER = 4096
CONTENT = b"".join(random.Random(n).randbytes(CLUSTER) if n % 5 else bytes(CLUSTER) for n in range(40)) + b"end!" * 128


def build(content: bytes = CONTENT, *, features: int = 0, name: bytes = b"", zero_entry: int = 1) -> bytes:
    """Clusters in descending order in the file, so that nothing is right by chance; zero ones become `zero_entry`."""
    clusters = [content[at : at + CLUSTER] for at in range(0, len(content), CLUSTER)]
    l1, l2 = bytearray(CLUSTER), bytearray(CLUSTER)
    struct.pack_into("<Q", l1, 0, 2 * CLUSTER)
    data, at = b"", 3 * CLUSTER
    for index in reversed(range(len(clusters))):
        if any(clusters[index]):
            struct.pack_into("<Q", l2, 8 * index, at)
            data += clusters[index].ljust(CLUSTER, b"\0")
            at += CLUSTER
        else:
            struct.pack_into("<Q", l2, 8 * index, zero_entry)
    head = struct.pack(
        "<4s3I5Q2I", b"QED\0", CLUSTER, 1, 1, features, 0, 0, CLUSTER, len(content), 64 if name else 0, len(name)
    )
    return (head + name).ljust(CLUSTER, b"\0") + bytes(l1) + bytes(l2) + data


def put(directory: Path, image: bytes, name: str = "a.qed") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def word(image: bytes, offset: int, value: int, size: int) -> bytes:
    return image[:offset] + value.to_bytes(size, "little") + image[offset + size :]


class TestQedContract(ReadOnlyFormatContract):
    image_format = FORMAT
    samples = {"zero clusters": (build(), CONTENT), "unallocated": (build(zero_entry=0), CONTENT)}  # noqa: RUF012


class TestQedManifest(ManifestContract):
    distribution_name = "hypersdk-format-qed"
    package = "hypersdk_format_qed"


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(4, 4, 0), (4, 4, 5000), (4, 4, 1 << 31), (8, 4, 0), (8, 4, 3), (8, 4, 32), (12, 4, 0), (40, 8, 100), (40, 8, 0),
     (40, 8, 1 << 63), (48, 8, 513), (48, 8, 1 << 63), (CLUSTER, 8, 4097), (CLUSTER, 8, 1 << 62),
     (2 * CLUSTER + 8, 8, 4097), (2 * CLUSTER + 8, 8, 1 << 40), (2 * CLUSTER + 8, 8, 2**64 - CLUSTER)],
)  # fmt: skip
def test_impossible_fields_are_malformed_and_named(tmp_path, offset, size, value):
    image = put(tmp_path, word(build(), offset, value, size))
    with pytest.raises(MalformedImage) as caught, FORMAT.open(image) as disk:
        disk.readinto(0, memoryview(bytearray(disk.size)))
    assert caught.value.structure


def test_data_inside_the_header_is_malformed(tmp_path):
    image = word(build(name=b""), 12, 3, 4)  # a header of three clusters: the first data cluster is its neighbour
    image = word(image, 2 * CLUSTER + 8, 2 * CLUSTER, 8)
    with FORMAT.open(put(tmp_path, image)) as disk, pytest.raises(MalformedImage, match="metadata"):
        disk.readinto(0, memoryview(bytearray(disk.size)))


def test_one_table_used_twice_is_malformed(tmp_path):
    image = word(word(build(), 48, 2 * 512 * CLUSTER, 8), CLUSTER + 8, 2 * CLUSTER, 8)
    with pytest.raises(MalformedImage, match="overlaps another"):
        FORMAT.open(put(tmp_path, image))


def test_unknown_features_are_refused_and_an_unchecked_image_is_told_dirty(tmp_path):
    with pytest.raises(Unsupported) as caught:
        FORMAT.open(put(tmp_path, build(features=8)))
    assert caught.value.reason == "FEATURE_UNSUPPORTED"
    with FORMAT.open(put(tmp_path, build(features=2), "b.qed")) as disk:
        assert disk.info()["dirty"] is True


def test_a_backing_file_needs_consent_and_a_known_format(tmp_path):
    (tmp_path / "base.img").write_bytes(b"\x55" * (20 * CLUSTER))
    image = build(features=1, name=b"base.img", zero_entry=0)
    with pytest.raises(FailedPrecondition) as caught:
        FORMAT.open(put(tmp_path, image))
    assert caught.value.reason == "IMAGE_HAS_PARENT"
    with pytest.raises(FailedPrecondition) as caught:
        FORMAT.open(put(tmp_path, image), {"chain": "on"})
    assert caught.value.reason == "BACKING_FORMAT_UNKNOWN"
    with FORMAT.open(put(tmp_path, image), {"chain": "off"}) as disk:
        assert disk.info()["backing_file"] == "base.img"
        with pytest.raises(FailedPrecondition):
            disk.readinto(0, memoryview(bytearray(1)))
    with FORMAT.open(put(tmp_path, image), {"chain": "on", "backing_fmt": "raw"}) as disk:
        found = bytearray(disk.size)
        disk.readinto(0, memoryview(found))
    wanted = bytearray(CONTENT)
    for cluster in range(0, 20, 5):
        wanted[cluster * CLUSTER : (cluster + 1) * CLUSTER] = b"\x55" * CLUSTER
    assert found == wanted


def test_a_chain_that_is_a_loop_or_leaves_the_directory_is_refused(tmp_path):
    with pytest.raises(MalformedImage) as caught:
        FORMAT.open(put(tmp_path, build(features=1, name=b"a.qed")), {"chain": "on", "backing_fmt": "qed"})
    assert caught.value.reason == "BACKING_CHAIN_LOOP"
    with pytest.raises(Exception, match="not a plain file name"):
        FORMAT.open(put(tmp_path, build(features=5, name=b"/etc/passwd"), "b.qed"), {"chain": "on"})


def qemu_img(*args: object) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize("options", ["", "cluster_size=4096,table_size=2", "cluster_size=2097152", "table_size=16"])
def test_images_of_qemu_img_read_byte_for_byte(tmp_path, options):
    size = (9 << 20) + 512
    disk = bytearray(size)
    rng = random.Random(7)
    for _ in range(12):
        at = rng.randrange(0, size - 200_000)
        disk[at : at + 150_000] = rng.randbytes(150_000)
    disk[-512:] = b"\x99" * 512
    (tmp_path / "raw").write_bytes(disk)
    qemu_img("convert", "-O", "qed", *(["-o", options] if options else []), tmp_path / "raw", tmp_path / "a.qed")
    with FORMAT.open(ImageFile.open(tmp_path / "a.qed")) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        assert found == disk


@pytest.mark.peer
def test_an_overlay_of_qemu_img_reads_over_its_backing_file(tmp_path):
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is missing; Debian has it in qemu-utils")
    base = os.urandom(3 << 20)
    (tmp_path / "base.raw").write_bytes(base)
    qemu_img("create", "-f", "qed", "-F", "raw", "-b", "base.raw", tmp_path / "top.qed", 4 << 20)
    commands = ["-c", "write -P 7 1000448 70000", "-c", "write -z 131072 65536"]
    subprocess.run(["qemu-io", "-f", "qed", *commands, tmp_path / "top.qed"], check=True, capture_output=True)
    qemu_img("convert", "-f", "qed", "-O", "raw", tmp_path / "top.qed", tmp_path / "flat")
    with FORMAT.open(ImageFile.open(tmp_path / "top.qed"), {"chain": "on"}) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
    assert found == (tmp_path / "flat").read_bytes()


def test_a_disk_of_16_tib_costs_no_more_than_its_tables(tmp_path):
    """One cluster at the very end."""
    cluster, size = 65536, 16 << 40
    entries = 4 * cluster // 8
    with (tmp_path / "big.qed").open("wb") as out:
        out.write(struct.pack("<4s3I5Q2I", b"QED\0", cluster, 4, 1, 0, 0, 0, cluster, size, 0, 0))
        last = size // cluster - 1
        out.seek(cluster + 8 * (last // entries))
        out.write(struct.pack("<Q", 5 * cluster))
        out.seek(5 * cluster + 8 * (last % entries))
        out.write(struct.pack("<Q", 9 * cluster))
        out.seek(9 * cluster)
        out.write(b"\x42" * cluster)
    with FORMAT.open(ImageFile.open(tmp_path / "big.qed")) as source:
        assert [(e.offset, int(e.kind)) for e in source.extents()] == [(0, 0), (size - cluster, 1)]

"""format-parallels: the suites, images built by the format's description, and images that qemu-img wrote."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported
from hypersdk.testing.manifest_contract import ManifestContract
from hypersdk.testing.readonly_contract import ReadOnlyFormatContract
from hypersdk_format_parallels import ParallelsFormat

FORMAT = ParallelsFormat()


def content(cluster: int) -> bytes:
    parts = [random.Random(n).randbytes(cluster) if n % 4 else bytes(cluster) for n in range(21)]
    return b"".join(parts) + b"end!" * 128


def build(tracks: int, *, extended: bool, inuse: int = 0x312E3276) -> bytes:
    """Clusters in descending order, none for zeros."""
    cluster = tracks * 512
    disk = content(cluster)
    count = -(-len(disk) // cluster)
    start = cluster if extended else -(-(64 + 4 * count) // 512) * 512
    unit = cluster if extended else 512
    bat, data = [0] * count, b""
    for index in reversed(range(count)):
        piece = disk[index * cluster : (index + 1) * cluster]
        if any(piece):
            bat[index] = (start + len(data)) // unit
            data += piece.ljust(cluster, b"\0")
    magic = b"WithouFreSpacExt" if extended else b"WithoutFreeSpace"
    sectors = len(disk) // 512 if extended else len(disk) // 512 | 0xABCD << 32
    head = struct.pack("<16s5IQ3IQ", magic, 2, 16, 32, tracks, count, sectors, inuse, start // 512, 0, 0)
    return (head + struct.pack(f"<{count}I", *bat)).ljust(start, b"\0") + data


def put(directory: Path, image: bytes, name: str = "a.hdd") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def word(image: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return image[:offset] + value.to_bytes(size, "little") + image[offset + size :]


def whole(file: ImageFile) -> bytes:
    with FORMAT.open(file) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        return bytes(found)


class TestParallelsContract(ReadOnlyFormatContract):
    image_format = FORMAT
    samples = {  # noqa: RUF012
        "extended": (build(16, extended=True), content(8192)),
        "old, 63 sectors": (build(63, extended=False), content(63 * 512)),
    }


class TestParallelsManifest(ManifestContract):
    distribution_name = "hypersdk-format-parallels"
    package = "hypersdk_format_parallels"


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(28, 4, 0), (28, 4, 1 << 31), (32, 4, 3), (32, 4, 0xFFFFFFFF), (36, 8, 1 << 62), (68, 4, 0xFFFFFFF0),
     (48, 4, 0xFFFFFFFF), (68, 4, 1 << 20)],
)  # fmt: skip
def test_impossible_fields_are_malformed_and_named(tmp_path, offset, size, value):
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, word(build(16, extended=True), offset, value, size)))
    assert caught.value.structure


def test_another_version_is_refused_by_name(tmp_path):
    with pytest.raises(Unsupported) as caught:
        FORMAT.open(put(tmp_path, word(build(16, extended=True), 16, 3)))
    assert caught.value.reason == "VERSION_UNSUPPORTED"


def test_an_image_that_was_not_closed_is_told_dirty(tmp_path):
    for inuse, dirty in ((0x746F6E59, True), (0x312E3276, False), (0, False)):
        with FORMAT.open(put(tmp_path, build(16, extended=True, inuse=inuse))) as source:
            assert source.info()["dirty"] is dirty


def test_a_disk_of_16_tib_is_mapped_a_page_at_a_time(tmp_path):
    tracks, count = 2048, 16 << 20
    start = -(-(64 + 4 * count) // (1 << 20)) << 20
    with (tmp_path / "big.hdd").open("wb") as out:
        head = (b"WithouFreSpacExt", 2, 16, 32, tracks, count, tracks * count, 0, start // 512, 0, 0)
        out.write(struct.pack("<16s5IQ3IQ", *head))
        out.seek(64 + 4 * (count - 1))
        out.write(struct.pack("<I", start >> 20))
        out.seek(start)
        out.write(b"\x42" * (1 << 20))
    with FORMAT.open(ImageFile.open(tmp_path / "big.hdd")) as source:
        assert [(e.offset, int(e.kind)) for e in source.extents()] == [(0, 0), ((16 << 40) - (1 << 20), 1)]


def qemu_img(*args: object) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize(("tracks", "extended"), [(16, True), (63, False), (2048, True)])
def test_qemu_img_reads_our_samples_as_we_do(tmp_path, tracks, extended):
    put(tmp_path, build(tracks, extended=extended)).close()
    qemu_img("convert", "-f", "parallels", "-O", "raw", tmp_path / "a.hdd", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == whole(ImageFile.open(tmp_path / "a.hdd")) == content(tracks * 512)


@pytest.mark.peer
@pytest.mark.parametrize("options", ["", "cluster_size=65536", "cluster_size=8388608"])
def test_images_of_qemu_img_read_byte_for_byte(tmp_path, options):
    disk = bytearray((9 << 20) + 512)
    rng = random.Random(7)
    for _ in range(12):
        at = rng.randrange(0, len(disk) - 200_000)
        disk[at : at + 150_000] = rng.randbytes(150_000)
    disk[-512:] = b"\x99" * 512
    (tmp_path / "raw").write_bytes(disk)
    option_args = ["-o", options] if options else []
    qemu_img("convert", "-O", "parallels", *option_args, tmp_path / "raw", tmp_path / "a.hdd")
    assert whole(ImageFile.open(tmp_path / "a.hdd"))[: len(disk)] == disk

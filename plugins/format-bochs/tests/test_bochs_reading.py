"""format-bochs: the suites, and images built by the format's published layout, which qemu-img reads too."""

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
from hypersdk_format_bochs import BochsFormat

FORMAT = BochsFormat()


def content(extent: int) -> bytes:
    """Some sectors of some extents; the last extent is not all in the disk."""
    rng = random.Random(extent)
    disk = bytearray(24 * extent - 512)
    for number in (0, 1, 5, 6, 7, 23):
        at = number * extent + rng.randrange(0, extent // 1024) * 512
        disk[at : at + 512] = rng.randbytes(512)
    disk[2 * extent : 4 * extent] = rng.randbytes(2 * extent)
    disk[-512:] = b"last" * 128
    return bytes(disk)


def build(extent: int = 4096, *, version: int = 2, subtype: bytes = b"Growing", disk: bytes | None = None) -> bytes:
    """Extents in descending order, bitmaps of the sectors that are not zero."""
    disk = content(extent) if disk is None else disk
    count = -(-len(disk) // extent)
    bitmap = max(1, extent // 512 // 8)
    catalog, data, number = [0xFFFFFFFF] * (count + 3), b"", 0
    for index in reversed(range(count)):
        piece = disk[index * extent : (index + 1) * extent].ljust(extent, b"\0")
        if not any(piece):
            continue
        bits = bytearray(-(-bitmap // 512) * 512)
        for sector in range(extent // 512):
            if any(piece[sector * 512 : sector * 512 + 512]):
                bits[sector // 8] |= 1 << sector % 8
        # what a clear bit covers was never written: old bytes of the host may be there
        masked = bytes(b if bits[at // 4096] >> at // 512 % 8 & 1 else 0xEE for at, b in enumerate(piece))
        catalog[index] = number
        number += 1
        data += bytes(bits) + masked
    size = struct.pack("<IQ", 99, len(disk)) if version == 2 else struct.pack("<Q", len(disk))
    head = struct.pack(
        "<32s16s16s5I", b"Bochs Virtual HD Image", b"Redolog", subtype, version << 16, 512, len(catalog), bitmap, extent
    )
    return (head + size).ljust(512, b"\0") + struct.pack(f"<{len(catalog)}I", *catalog) + data


def put(directory: Path, image: bytes, name: str = "a.img") -> ImageFile:
    (directory / name).write_bytes(image)
    return ImageFile.open(directory / name)


def word(image: bytes, offset: int, value: int, size: int = 4) -> bytes:
    return image[:offset] + value.to_bytes(size, "little") + image[offset + size :]


def whole(file: ImageFile) -> bytes:
    with FORMAT.open(file) as source:
        found = bytearray(source.size)
        source.readinto(0, memoryview(found))
        return bytes(found)


class TestBochsContract(ReadOnlyFormatContract):
    image_format = FORMAT
    samples = {  # noqa: RUF012
        "small extents": (build(), content(4096)),
        "version 1": (build(16384, version=1), content(16384)),
        "large extents": (build(131072), content(131072)),
    }


class TestBochsManifest(ManifestContract):
    distribution_name = "hypersdk-format-bochs"
    package = "hypersdk_format_bochs"


@pytest.mark.parametrize(
    ("offset", "size", "value"),
    [(68, 4, 10), (68, 4, 0xFFFFFFFF), (72, 4, 5), (72, 4, 0xFFFFFFFF), (72, 4, 1 << 19), (76, 4, 0),
     (76, 4, 0xFFFFFFFF), (80, 4, 0), (80, 4, 5000), (80, 4, 1 << 24), (88, 8, 513), (88, 8, 1 << 60),
     (512, 4, 0xFFFFFFF0), (512, 4, 1), (0, 4, 0), (32, 4, 0)],
)  # fmt: skip
def test_impossible_fields_are_malformed_and_named(tmp_path, offset, size, value):
    with pytest.raises(MalformedImage) as caught:
        whole(put(tmp_path, word(build(), offset, value, size)))
    assert caught.value.structure


@pytest.mark.parametrize("subtype", [b"Undoable", b"Volatile"])
def test_redologs_over_another_disk_are_refused(tmp_path, subtype):
    with pytest.raises(Unsupported) as caught:
        FORMAT.open(put(tmp_path, build(subtype=subtype)))
    assert caught.value.reason == "SUBTYPE_UNSUPPORTED"


def test_another_version_is_refused_by_name(tmp_path):
    with pytest.raises(Unsupported) as caught:
        FORMAT.open(put(tmp_path, word(build(), 64, 0x30000)))
    assert caught.value.reason == "VERSION_UNSUPPORTED"


def test_a_large_disk_costs_no_more_than_its_extents(tmp_path):
    extent, entries = 8 << 20, 1 << 20
    bitmap = extent // 4096
    with (tmp_path / "big.img").open("wb") as out:
        head = (b"Bochs Virtual HD Image", b"Redolog", b"Growing", 0x20000, 512, entries, bitmap, extent)
        out.write(struct.pack("<32s16s16s5IIQ", *head, 0, extent * entries).ljust(512, b"\0"))
        out.write(b"\xff" * (4 * entries - 4) + bytes(4))
        out.write(b"\x01".ljust(bitmap, b"\0") + b"\x42" * 512)
    with FORMAT.open(ImageFile.open(tmp_path / "big.img")) as source:
        last = extent * (entries - 1)
        assert [(e.offset, e.length) for e in source.extents() if e.kind] == [(last, 512)]


def qemu_img(*args: object) -> None:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True, timeout=60)


@pytest.mark.peer
@pytest.mark.parametrize(("extent", "version"), [(4096, 1), (4096, 2), (16384, 2), (131072, 2)])
def test_qemu_img_reads_our_samples_as_we_do(tmp_path, extent, version):
    image = build(extent, version=version)
    put(tmp_path, image).close()
    qemu_img("convert", "-f", "bochs", "-O", "raw", tmp_path / "a.img", tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == whole(ImageFile.open(tmp_path / "a.img")) == content(extent)

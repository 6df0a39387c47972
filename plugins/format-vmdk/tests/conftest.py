"""Fixtures for the VMDK tests: reading a whole image, qemu-img, and images built by hand from the specifications."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vmdk import VmdkFormat

SECTOR = 512
GRAIN = 65536


@pytest.fixture
def read() -> Callable[..., bytes]:
    """The content of an image, read twice: by its extents, and in one piece. Both must be the same."""

    def read_image(path: Path, **options: str) -> bytes:
        with VmdkFormat().open(ImageFile.open(path), options) as source:
            by_extents = bytearray(source.size)
            end = 0
            for extent in source.extents():
                assert extent.offset == end
                end = extent.end
                if extent.kind is ExtentKind.DATA:
                    source.readinto(extent.offset, memoryview(by_extents)[extent.offset : end])
            assert end == source.size
            whole = bytearray(b"\xff" * source.size)
            source.readinto(0, memoryview(whole))
            assert whole == by_extents
            return bytes(whole)

    return read_image


@pytest.fixture
def qemu_img() -> Callable[..., str]:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is missing; Debian has it in qemu-utils")

    def run(*args: object) -> str:
        done = subprocess.run(["qemu-img", *map(str, args)], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def sample() -> Callable[..., bytes]:
    """`size` bytes of disk with data here and there, some of it incompressible, some not; deterministic."""

    def make(size: int, seed: int = 1) -> bytes:
        rng = random.Random(seed)
        disk = bytearray(size)
        for number in range(1 + size // (3 << 20)):
            length = min(size, rng.choice((512, 4096, 70000, 200000)))
            at = rng.randrange(0, size - length + 1)
            disk[at : at + length] = rng.randbytes(length) if number % 2 else (b"VMDK" * (length // 4 + 1))[:length]
        disk[-512:] = b"\xee" * min(512, size)
        return bytes(disk)

    return make


@pytest.fixture
def descriptor() -> Callable[..., bytes]:
    """A descriptor file's text with the given extent lines."""

    def make(create_type: str, *lines: str, cid: str = "12345678", extra: str = "") -> bytes:
        return (
            f'# Disk DescriptorFile\nversion=1\nCID={cid}\nparentCID=ffffffff\ncreateType="{create_type}"\n{extra}\n'
            "# Extent description\n" + "\n".join(lines) + '\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = "ide"\n'
        ).encode()

    return make


@pytest.fixture
def hosted() -> Callable[..., bytes]:
    """A sparse extent by VDF 5.0: `grains` maps grain numbers to 64 KiB, or to an int, a raw table entry."""

    def make(
        sectors: int, grains: Mapping[int, bytes | int], *, text: bytes = b"", flags: int = 3, version: int = 1
    ) -> bytes:
        tables = -(-sectors // (128 * 512))
        directory = -(-tables * 4 // SECTOR)
        redundant, primary = 21, 21 + directory + 4 * tables
        overhead = -(-(primary + directory + 4 * tables) // 128) * 128
        header = struct.pack(
            "<4sIIQQQQIQQQB4sH", b"KDMV", version, flags, sectors, 128, 1 if text else 0, 20 if text else 0, 512,
            redundant, primary, overhead, 0, b"\n \r\n", 0,
        )  # fmt: skip
        image = bytearray(overhead * SECTOR)
        image[: len(header)] = header
        image[SECTOR : SECTOR + len(text)] = text
        for start in (redundant, primary):
            for table in range(tables):
                struct.pack_into("<I", image, start * SECTOR + 4 * table, start + directory + 4 * table)
        for number, data in grains.items():
            entry = data if isinstance(data, int) else len(image) // SECTOR
            for start in (redundant, primary):
                struct.pack_into("<I", image, (start + directory) * SECTOR + 4 * number, entry)
            if isinstance(data, bytes):
                image += data
        return bytes(image)

    return make


@pytest.fixture
def cowd() -> Callable[..., bytes]:
    """A vmfsSparse extent with grains of one sector."""

    def make(sectors: int, grains: Mapping[int, bytes]) -> bytes:
        tables = -(-sectors // 4096)
        directory = -(-tables * 4 // SECTOR)
        image = bytearray((4 + directory + 32 * tables) * SECTOR)
        struct.pack_into("<4s7I", image, 0, b"COWD", 1, 3, sectors, 1, 4, tables, 0)
        for table in range(tables):
            struct.pack_into("<I", image, 2048 + 4 * table, 4 + directory + 32 * table)
        for number, data in grains.items():
            struct.pack_into("<I", image, (4 + directory) * SECTOR + 4 * number, len(image) // SECTOR)
            image += data
        return bytes(image)

    return make


@pytest.fixture
def sesparse() -> Callable[..., bytes]:
    """A seSparse extent with grains of 4 KiB; a grain given as an int is a raw entry."""

    def make(sectors: int, grains: Mapping[int, bytes | int], *, replay: int = 0) -> bytes:
        tables = -(-sectors // (8 * 4096))
        directory = 8
        first_table, first_grain = 2 + directory, 2 + directory + 64 * tables
        image = bytearray(first_grain * SECTOR)
        numbers = [0] * 24
        numbers[0:5] = (0x0000000200000001, sectors, 8, 64, 0)
        numbers[9:11] = (1, 1)
        numbers[15:19] = (2, directory, first_table, 64 * tables)
        numbers[23] = first_grain
        struct.pack_into("<Q24Q", image, 0, 0xCAFEBABE, *numbers)
        struct.pack_into("<4Q", image, SECTOR, 0xCAFECAFE, 0, 0, replay)
        for table in range(tables):
            struct.pack_into("<Q", image, 2 * SECTOR + 8 * table, 0x1000000000000000 | table)
        for number, data in grains.items():
            stored = (len(image) - first_grain * SECTOR) // 4096
            entry = data if isinstance(data, int) else 0x3 << 60 | (stored & 0xFFF) << 48 | stored >> 12
            struct.pack_into("<Q", image, first_table * SECTOR + 8 * number, entry)
            if isinstance(data, bytes):
                image += data
        return bytes(image)

    return make

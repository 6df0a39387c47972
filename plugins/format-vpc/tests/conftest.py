"""Fixtures for the VHD tests: reading a whole image, qemu-img, and images built by hand from the specification."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vpc import VpcFormat

SECTOR = 512
BLOCK = 1 << 16


def checksummed(raw: bytes, at: int) -> bytes:
    return raw[:at] + struct.pack(">I", ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF) + raw[at + 4 :]


def footer(
    kind: int, size: int, *, creator: bytes = b"win ", geometry: tuple[int, int, int] = (1, 4, 17), timestamp: int = 5,
    uuid: int = 1, data_offset: int = 512,
) -> bytes:  # fmt: skip
    raw = struct.pack(
        ">8sIIQI4sI4sQQHBBII16sB", b"conectix", 2, 0x10000, data_offset, timestamp, creator, 0x60000, b"Wi2k", size,
        size, *geometry, kind, 0, UUID(int=uuid).bytes, 0,
    )  # fmt: skip
    return checksummed(raw.ljust(512, b"\0"), 64)


@pytest.fixture
def vhd() -> Callable[..., bytes]:
    """An image: `blocks` maps block numbers to (bitmap, data), or to an int, a raw table entry. Blocks are of 64 KiB.
    `locators`: platform code → text."""

    def make(
        size: int, blocks: Mapping[int, tuple[bytes, bytes] | int], *, kind: int = 3, parent: int = 0,
        parent_timestamp: int = 0, parent_name: str = "", locators: Mapping[bytes, str] | None = None,
        **of_footer: object,
    ) -> bytes:  # fmt: skip
        entries = -(-size // BLOCK)
        texts = {
            code: text.encode("utf-8" if code == b"MacX" else "utf-16-le") for code, text in (locators or {}).items()
        }
        body = bytearray(-(-(1536 + entries * 4) // SECTOR) * SECTOR)
        rows = b""
        for code, text in texts.items():
            rows += struct.pack(">4sIIIQ", code, SECTOR, len(text), 0, len(body))
            body += text.ljust(-(-len(text) // SECTOR) * SECTOR, b"\0")
        header = struct.pack(
            ">8sQQIIII16sII512s", b"cxsparse", 2**64 - 1, 1536, 0x10000, entries, BLOCK, 0, UUID(int=parent).bytes,
            parent_timestamp, 0, parent_name.encode("utf-16-be"),
        ) + rows  # fmt: skip
        body[512:1536] = checksummed(header.ljust(1024, b"\0"), 36)
        body[1536 : 1536 + entries * 4] = b"\xff" * (entries * 4)
        for number, stored in blocks.items():
            entry = stored if isinstance(stored, int) else len(body) // SECTOR
            struct.pack_into(">I", body, 1536 + number * 4, entry)
            if not isinstance(stored, int):
                body += stored[0].ljust(SECTOR, b"\0") + stored[1].ljust(BLOCK, b"\0")
        end = footer(kind, size, **of_footer)
        body[:512] = end
        return bytes(body) + end

    return make


@pytest.fixture
def read() -> Callable[..., bytes]:
    """The content of an image, read twice: by its extents, and in one piece. Both must be the same."""

    def read_image(path: Path, **options: str) -> bytes:
        with VpcFormat().open(ImageFile.open(path), options) as source:
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
    """`size` bytes of disk with data here and there; deterministic."""

    def make(size: int, seed: int = 1) -> bytes:
        rng = random.Random(seed)
        disk = bytearray(size)
        for _ in range(1 + size // (3 << 20)):
            length = min(size, rng.choice((512, 4096, 70000, 200000)))
            at = rng.randrange(0, size - length + 1)
            disk[at : at + length] = rng.randbytes(length)
        disk[-512:] = b"\xee" * min(512, size)
        return bytes(disk)

    return make

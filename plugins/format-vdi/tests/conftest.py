"""Fixtures for the VDI tests: reading a whole image, qemu-img, and images built by hand."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vdi import VdiFormat

BLOCK = 1 << 16
DATA_OFFSET = 4096


@pytest.fixture
def vdi() -> Callable[..., bytes]:
    """An image whose map is `numbers` and whose data are `stored`, in the order of the file. Blocks are of 64 KiB."""

    def make(
        size: int, numbers: Sequence[int], stored: Sequence[bytes], *, kind: int = 1, uuid: int = 1,
        modification: int = 2, parent: int = 0, parent_modification: int = 0, extra: int = 0,
    ) -> bytes:  # fmt: skip
        uuids = [UUID(int=n).bytes_le for n in (uuid, modification, parent, parent_modification)]
        head = struct.pack(
            "<64s4sIIII256sIIIIIIIQIIII16s16s16s16s", b"<<< hand-made >>>\n", b"\x7f\x10\xda\xbe", 0x10001, 400, kind,
            0, b"made by hand", 512, DATA_OFFSET, 0, 0, 0, 512, 0, size, BLOCK, extra, len(numbers), len(stored),
            *uuids,
        )  # fmt: skip
        body = (head.ljust(512, b"\0") + struct.pack(f"<{len(numbers)}I", *numbers)).ljust(DATA_OFFSET, b"\0")
        return body + b"".join(b"\xaa" * extra + data.ljust(BLOCK, b"\0") for data in stored)

    return make


@pytest.fixture
def read() -> Callable[..., bytes]:
    """The content of an image, read twice: by its extents, and in one piece. Both must be the same."""

    def read_image(path: Path, **options: str) -> bytes:
        with VdiFormat().open(ImageFile.open(path), options) as source:
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

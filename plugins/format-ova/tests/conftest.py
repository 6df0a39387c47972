"""Fixtures for the OVA tests: packages built from the specification, disks to put into them, and reading them back."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.images import FormatRegistry
from hypersdk.data.pipeline import copy
from hypersdk.testing.blocks import PatternSource
from hypersdk_format_ova import OvaFormat

MIB = 1 << 20
VMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


@pytest.fixture
def source() -> PatternSource:
    return PatternSource(4 * MIB, [(0, 100_000), (2 * MIB, MIB), (4 * MIB - 512, 512)])


@pytest.fixture
def vmdk(tmp_path: Path) -> Callable[..., bytes]:
    """A streamOptimized VMDK of a source."""

    def make(disk: PatternSource) -> bytes:
        path = tmp_path / f"made-{random.random()}.vmdk"
        with ImageFile.create(path) as file:
            image_format = FormatRegistry.installed().get("vmdk")
            copy(disk, image_format.create(file, disk.size, {"subformat": "streamOptimized"}))
        data = path.read_bytes()
        path.unlink()
        return data

    return make


@pytest.fixture
def descriptor() -> Callable[..., bytes]:
    """A descriptor of disks given as (diskId, href, capacity, attributes of File, attributes of Disk)."""

    def make(*disks: tuple[str, str, int, str, str], prolog: str = "") -> bytes:
        files = "".join(f'<File ovf:id="f-{d}" ovf:href="{href}" {extra}/>' for d, href, _, extra, _ in disks)
        listed = "".join(
            f'<Disk ovf:diskId="{d}" ovf:fileRef="f-{d}" ovf:capacity="{capacity}" {extra}/>'
            for d, _, capacity, _, extra in disks
        )
        return f"""<?xml version="1.0" encoding="UTF-8"?>{prolog}
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>{files}</References><DiskSection><Info/>{listed}</DiskSection>
  <VirtualSystem ovf:id="vm"><Info/><Name>Web server</Name><VirtualHardwareSection><Info/></VirtualHardwareSection>
  </VirtualSystem></Envelope>""".encode()

    return make


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """An .ova of (name, data) in that order; `digests` appends a manifest of that algorithm."""

    def make(*members: tuple[str, bytes], digests: str = "", name: str = "vm.ova") -> Path:
        listed = list(members)
        if digests:
            lines = (f"{digests}({n})= {hashlib.new(digests, data).hexdigest()}\n" for n, data in members)
            listed.append(("vm.mf", "".join(lines).encode()))
        with tarfile.open(tmp_path / name, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for member, data in listed:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return tmp_path / name

    return make


@pytest.fixture
def read() -> Callable[..., bytes]:
    """The content of a disk, read twice: by its extents, and in one piece. Both must be the same."""

    def read_disk(path: Path, **options: str) -> bytes:
        with OvaFormat().open(ImageFile.open(path), options) as disk:
            by_extents = bytearray(disk.size)
            for extent in disk.extents():
                if extent.kind is ExtentKind.DATA:
                    disk.readinto(extent.offset, memoryview(by_extents)[extent.offset : extent.end])
            whole = bytearray(b"\xff" * disk.size)
            disk.readinto(0, memoryview(whole))
            assert whole == by_extents
            return bytes(whole)

    return read_disk


@pytest.fixture
def check() -> Callable[..., object]:
    def check_file(path: Path) -> object:
        with ImageFile.open(path) as file:
            return OvaFormat().check(file)

    return check_file

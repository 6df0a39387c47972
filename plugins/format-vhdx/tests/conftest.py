"""What the vhdx tests share: images of our writing, images built by hand from the specification, whole reads, QEMU."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypersdk.data.extent import ExtentKind
from hypersdk.data.imagefile import ImageFile
from hypersdk_format_vhdx import VhdxFormat
from hypersdk_format_vhdx.crc32c import checksum_of

MIB = 1 << 20
NIL = uuid.UUID(int=0)
FORMAT = VhdxFormat()
LOG_GUID = uuid.UUID("11111111-2222-3333-4444-555555555555")
DATA_GUID = uuid.UUID("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee")
LOG_AT, METADATA_AT, BAT_AT, PAYLOAD_AT = MIB, 2 * MIB, 3 * MIB, 4 * MIB


def summed(raw: bytes) -> bytes:
    """With its checksum put in at byte 4."""
    return raw[:4] + struct.pack("<I", checksum_of(raw)) + raw[8:]


def header(sequence: int, *, log_guid: uuid.UUID = NIL, data_guid: uuid.UUID = DATA_GUID, log_version: int = 0,
           version: int = 1, log_length: int = MIB, log_offset: int = LOG_AT) -> bytes:  # fmt: skip
    fields = struct.pack(
        "<4sIQ16s16s16sHHIQ", b"head", 0, sequence, uuid.UUID(int=7).bytes_le, data_guid.bytes_le, log_guid.bytes_le,
        log_version, version, log_length, log_offset,
    )  # fmt: skip
    return summed(fields.ljust(4096, b"\0"))


def region_table(entries: Sequence[tuple[str, int, int, int]]) -> bytes:
    raw = struct.pack("<4sIII", b"regi", 0, len(entries), 0)
    for guid, offset, length, required in entries:
        raw += struct.pack("<16sQII", uuid.UUID(guid).bytes_le, offset, length, required)
    return summed(raw.ljust(65536, b"\0"))


BAT_ENTRY = ("2dc27766-f623-4200-9d64-115e9bfd4a08", BAT_AT, MIB, 1)
METADATA_ENTRY = ("8b7ca206-4790-4b9a-b8fe-575f050f886e", METADATA_AT, MIB, 1)


def metadata_items(size: int, block: int, sector: int, locator: bytes | None) -> list[tuple[str, int, bytes]]:
    items = [
        ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", 4, struct.pack("<II", block, 2 if locator else 0)),
        ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", 6, struct.pack("<Q", size)),
        ("beca12ab-b2e6-4523-93ef-c309e000c746", 6, uuid.UUID(int=9).bytes_le),
        ("8141bf1d-a96f-4709-ba47-f233a8faab5f", 6, struct.pack("<I", sector)),
        ("cda348c7-445d-4471-9cc9-e9885251c556", 6, struct.pack("<I", 4096)),
    ]
    return items + ([("a8d35f2d-b30b-454d-abf7-d3d84834ab0c", 4, locator)] if locator else [])


def metadata_region(items: Sequence[tuple[str, int, bytes]]) -> bytes:
    table = struct.pack("<8sHH20x", b"metadata", 0, len(items))
    body = b""
    for guid, flags, data in items:
        table += struct.pack("<16sIIII", uuid.UUID(guid).bytes_le, 65536 + len(body), len(data), flags, 0)
        body += data
    return table.ljust(65536, b"\0") + body


def locator(relative: str | None = ".\\base.vhdx", linkage: str | None = None, **more: str) -> bytes:
    """A parent locator. `linkage` None: of the images that `image` makes."""
    entries = {"parent_linkage": f"{{{DATA_GUID}}}" if linkage is None else linkage, **more}
    if relative is not None:
        entries["relative_path"] = relative
    head = uuid.UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le + struct.pack("<HH", 0, len(entries))
    at = len(head) + 12 * len(entries)
    body = b""
    for key, value in entries.items():
        k, v = key.encode("utf-16-le"), value.encode("utf-16-le")
        head += struct.pack("<IIHH", at + len(body), at + len(body) + len(k), len(k), len(v))
        body += k + v
    return head + body


def log_entry(sequence: int, tail: int, changes: Sequence[tuple[int, bytes | int]], *, flushed: int = 0, last: int = 0,
              guid: uuid.UUID = LOG_GUID) -> bytes:  # fmt: skip
    """Changes: (offset, 4 KiB of data) or (offset, count of zeros)."""
    descriptors, sectors = b"", b""
    for offset, what in changes:
        if isinstance(what, int):
            descriptors += struct.pack("<4sIQQQ", b"zero", 0, what, offset, sequence)
            continue
        descriptors += struct.pack("<4s4s8sQQ", b"desc", what[-4:], what[:8], offset, sequence)
        sectors += struct.pack("<4sI4084sI", b"data", sequence >> 32, what[8:-4], sequence & 0xFFFFFFFF)
    area = -(-(64 + len(descriptors)) // 4096) * 4096
    head = struct.pack(
        "<4sIIIQII16sQQ", b"loge", 0, area + len(sectors), tail, sequence, len(changes), 0, guid.bytes_le, flushed, last
    )
    return summed((head + descriptors).ljust(area, b"\0") + sectors)


def image(size: int, blocks: Mapping[int, tuple[int, bytes]], *, block: int = MIB, sector: int = 512,
          bitmaps: Mapping[int, bytes] | None = None, parent: bytes | None = None, log: bytes = b"",
          headers: tuple[bytes, bytes] | None = None, regions: Sequence[tuple[str, int, int, int]] | None = None,
          items: Sequence[tuple[str, int, bytes]] | None = None) -> bytes:  # fmt: skip
    """An image by the specification. `blocks`: state and content by number, `bitmaps`: by chunk; both are put behind
    one another in the order given. With a `log` the header says that the file was not closed."""
    ratio = (1 << 23) * sector // block
    bat = bytearray(MIB)
    payload = b""
    for number, (state, content) in blocks.items():
        place = PAYLOAD_AT + len(payload) if state >= 6 else 0
        struct.pack_into("<Q", bat, 8 * (number + number // ratio), place | state)
        payload += content.ljust(block, b"\0") if state >= 6 else b""
    for chunk, bits in (bitmaps or {}).items():
        struct.pack_into("<Q", bat, 8 * (chunk * (ratio + 1) + ratio), PAYLOAD_AT + len(payload) | 6)
        payload += bits.ljust(MIB, b"\0")
    first, second = headers or (header(1), header(2, log_guid=LOG_GUID if log else NIL))
    table = region_table(regions or (BAT_ENTRY, METADATA_ENTRY))
    out = bytearray(PAYLOAD_AT)
    for at, part in (
        (0, b"vhdxfile" + "by hand".encode("utf-16-le")), (65536, first), (131072, second), (196608, table),
        (262144, table), (LOG_AT, log), (BAT_AT, bat),
        (METADATA_AT, metadata_region(items or metadata_items(size, block, sector, parent))),
    ):  # fmt: skip
        out[at : at + len(part)] = part
    return bytes(out) + payload


class Images:
    """Makes and reads images in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.format = FORMAT

    def content(self, size: int, seed: int = 0) -> bytes:
        """Mostly zeros, with random stretches."""
        pick = random.Random(seed)
        data = bytearray(size)
        for _ in range(12):
            offset = pick.randrange(size)
            length = min(size - offset, pick.choice([100, 4096, 200_000, 1_500_000]))
            data[offset : offset + length] = pick.randbytes(length)
        return bytes(data)

    def write(self, data: bytes, options: Mapping[str, str] | None = None, *, name: str = "ours.vhdx",
              interrupt: Callable[[int], bool] = lambda _: False) -> Path:  # fmt: skip
        """An image of `data`, written in pieces without those that are zeros. Where `interrupt(offset)`, the writer
        takes a checkpoint, writes on, is dropped, and another resumes."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        file = ImageFile.create(path)
        sink = self.format.create(file, len(data), options)
        step = 5 * 65536
        for offset in range(0, len(data), step):
            if interrupt(offset):
                state = json.loads(json.dumps(sink.checkpoint()))
                for at in range(offset, min(len(data), offset + 40 * step), step):
                    sink.write(at, b"\xee" * len(data[at : at + step]))
                sink.abort()
                file.close()
                file = ImageFile.create(path, resume=True)
                sink = self.format.create(file, len(data), options, state)
            piece = data[offset : offset + step]
            if piece.count(0) != len(piece):
                sink.write(offset, piece)
        assert sink.finish()["file_bytes"] == path.stat().st_size
        file.close()
        return path

    def put(self, raw: bytes, name: str = "made.vhdx") -> Path:
        path = self.directory / name
        path.write_bytes(raw)
        return path

    def open(self, path: Path, **options: str) -> Any:
        return self.format.open(ImageFile.open(path), options)

    def read(self, path: Path, **options: str) -> bytes:
        """The whole disk, after its extents were found to cover it and to promise no zeros that are none."""
        with self.open(path, **options) as source:
            buffer = bytearray(source.size)
            source.readinto(0, memoryview(buffer))
            at = 0
            for extent in source.extents():
                assert extent.offset == at
                at = extent.end
                if extent.kind == ExtentKind.ZERO:
                    assert not any(buffer[extent.offset : extent.end])
            assert at == source.size
            return bytes(buffer)

    def check(self, path: Path) -> Any:
        with ImageFile.open(path) as file:
            return self.format.check(file)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path)


@pytest.fixture
def tool(tmp_path: Path) -> Callable[..., str]:
    """Run one of QEMU's tools in the test's directory; its standard output. Fails with what it said."""

    def run(name: str, *args: str | Path) -> str:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt-get install qemu-utils")
        result = subprocess.run([name, *map(str, args)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{name} {args}: {result.stdout}{result.stderr}"
        return result.stdout

    return run


@pytest.fixture
def make() -> Any:
    """The builders of this module, for images by hand."""
    import types

    return types.SimpleNamespace(
        image=image, header=header, region_table=region_table, metadata_items=metadata_items, locator=locator,
        log_entry=log_entry, summed=summed, bat_entry=BAT_ENTRY, metadata_entry=METADATA_ENTRY, log_guid=LOG_GUID,
        payload_at=PAYLOAD_AT, bat_at=BAT_AT, log_at=LOG_AT, metadata_at=METADATA_AT,
    )  # fmt: skip

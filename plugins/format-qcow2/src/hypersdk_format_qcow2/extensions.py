"""Header extensions: the list of (kind, data) after the header, and QEMU's feature name table in it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

EXT_END = 0
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_NAMES = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_ENCRYPTION = 0x0537BE77
EXT_DATA_FILE = 0x44415441

_HEAD = struct.Struct(">II")
_FEATURE = struct.Struct(">BB46s")
_FEATURES = (
    (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"), (0, 3, "compression type"),
    (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"), (2, 0, "bitmaps"), (2, 1, "raw external data"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension; `offset` (bytes) is where its data lies in the file, 0 for one that is yet to be
    written."""

    kind: int
    data: bytes
    offset: int = 0


def parse_extensions(file: ImageFile, start: int, end: int) -> tuple[Extension, ...]:
    """The extensions in [start, end) of `file`. Unknown kinds are kept: the specification has readers ignore
    them. Raises MalformedImage for one that leaves the area."""
    area = file.pread(start, end - start, structure="header extensions") if end > start else b""
    found: list[Extension] = []
    at = 0
    while at + _HEAD.size <= len(area):
        kind, length = _HEAD.unpack_from(area, at)
        if kind == EXT_END:
            break
        at += _HEAD.size
        if length > len(area) - at:
            raise MalformedImage(
                f"{file.path.name}: header extension 0x{kind:08x} of {length} bytes leaves the header's area",
                structure="header extension", offset=start + at - _HEAD.size,
            )  # fmt: skip
        found.append(Extension(kind, area[at : at + length], start + at))
        at += -(-length // 8) * 8
    return tuple(found)


def pack_extensions(extensions: tuple[Extension, ...]) -> bytes:
    """The bytes of `extensions` with the end mark."""
    out = bytearray()
    for ext in extensions:
        out += _HEAD.pack(ext.kind, len(ext.data)) + ext.data.ljust(-(-len(ext.data) // 8) * 8, b"\0")
    return bytes(out) + _HEAD.pack(EXT_END, 0)


def feature_names(table: Extension, kind: int) -> dict[int, str]:
    """Bit → name of the features of one kind (0 incompatible, 1 compatible, 2 autoclear)."""
    names: dict[int, str] = {}
    for at in range(0, len(table.data) - _FEATURE.size + 1, _FEATURE.size):
        entry_kind, bit, raw = _FEATURE.unpack_from(table.data, at)
        if entry_kind == kind and bit < 64:
            names[bit] = raw.rstrip(b"\0").decode("utf-8", "replace")
    return names


def feature_table() -> Extension:
    """The feature name table that we write: readers older than a feature can then name it."""
    return Extension(
        EXT_FEATURE_NAMES, b"".join(_FEATURE.pack(kind, bit, name.encode()) for kind, bit, name in _FEATURES)
    )

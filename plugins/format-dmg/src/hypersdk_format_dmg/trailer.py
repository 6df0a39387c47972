"""The trailer (koly block) of a UDIF image: its last 512 bytes, which say where everything else is."""

from __future__ import annotations

import struct
from typing import NamedTuple

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

TRAILER_BYTES = 512
MAX_PLIST = 16 << 20
"""Bytes; as QEMU's limit. It describes some 300,000 chunks."""
_MAX_OFFSET = 1 << 62
_FIELDS = struct.Struct(">4sIII5Q2I")
_PLIST = struct.Struct(">2Q")
_PLIST_AT = 216
_SECTORS = struct.Struct(">IQ")
_SECTORS_AT = 488


class Trailer(NamedTuple):
    """Offsets and lengths in bytes; `sectors` of 512 bytes is the disk's size."""

    version: int
    data_fork_offset: int
    data_fork_length: int
    plist_offset: int
    plist_length: int
    variant: int
    sectors: int


def read_trailer(file: ImageFile) -> Trailer:
    """Raises MalformedImage; Unsupported (ENCRYPTION_UNSUPPORTED, LAYOUT_UNSUPPORTED)."""
    name, size = file.path.name, file.size
    _refuse_encrypted(file)
    if size < TRAILER_BYTES:
        raise MalformedImage(
            f"{name} is shorter than the trailer of a disk image; it is truncated",
            structure="trailer", offset=0, reason="IMAGE_TRUNCATED",
        )  # fmt: skip
    at = size - TRAILER_BYTES
    raw = file.pread(at, TRAILER_BYTES, structure="trailer")
    magic, version, length, _, _, data_at, data_length, _, fork_length, _, segments = _FIELDS.unpack_from(raw)
    if magic != b"koly" or length != TRAILER_BYTES:
        raise MalformedImage(
            f"{name}: its last 512 bytes are not the trailer of a disk image; it is truncated or something else",
            structure="trailer", offset=at,
        )  # fmt: skip
    plist_at, plist_length = _PLIST.unpack_from(raw, _PLIST_AT)
    variant, sectors = _SECTORS.unpack_from(raw, _SECTORS_AT)
    if segments > 1:
        raise _layout(name, f"is one of {segments} segments", "join them with hdiutil")
    if not plist_length and fork_length:
        raise _layout(name, "keeps its tables in a resource fork", "convert it with hdiutil")
    if plist_length > MAX_PLIST or plist_at > at or plist_length > at - plist_at:
        raise MalformedImage(
            f"{name}: the property list of {plist_length} bytes at offset {plist_at} is not in the file or larger than "
            f"{MAX_PLIST}",
            structure="property list", offset=at + _PLIST_AT,
        )  # fmt: skip
    if data_at > at or sectors * 512 > _MAX_OFFSET:
        raise MalformedImage(
            f"{name}: data fork at offset {data_at} or {sectors} sectors are impossible",
            structure="trailer", offset=at,
        )  # fmt: skip
    return Trailer(version, data_at, data_length, plist_at, plist_length, variant, sectors)


def _refuse_encrypted(file: ImageFile) -> None:
    size = file.size
    head = file.pread(0, min(8, size), structure="head")
    tail = file.pread(max(0, size - 8), min(8, size), structure="trailer")
    if head == b"encrcdsa" or tail == b"cdsaencr":
        raise Unsupported(
            f"{file.path.name} is encrypted; decrypt it with hdiutil first", reason="ENCRYPTION_UNSUPPORTED"
        )


def _layout(name: str, what: str, remedy: str) -> Unsupported:
    return Unsupported(f"{name} {what}, which is not read; {remedy} first", reason="LAYOUT_UNSUPPORTED")

"""Persistent dirty bitmaps: which clusters they occupy. Their content is not read; this is for `check`."""

from __future__ import annotations

import struct

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_qcow2.extensions import EXT_BITMAPS
from hypersdk_format_qcow2.geometry import OFFSET_MASK
from hypersdk_format_qcow2.header import AUTOCLEAR_BITMAPS, Header
from hypersdk_format_qcow2.l1 import load_table

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")
_MAX_BITMAPS = 65535
_MAX_DIRECTORY = 64 << 20
_MAX_ENTRIES = 1 << 22
"""Of all tables together: 256 GiB of bitmaps with clusters of 64 KiB."""


def bitmap_areas(file: ImageFile, header: Header) -> list[tuple[int, int, str]]:
    """(offset, length in bytes, structure) of the directory, every bitmap's table and its data clusters;
    nothing when the autoclear bit says that a writer which knows no bitmaps has been there. Raises
    MalformedImage."""
    extension = next((ext for ext in header.extensions if ext.kind == EXT_BITMAPS), None)
    if extension is None or not header.autoclear & AUTOCLEAR_BITMAPS:
        return []
    if len(extension.data) < _EXTENSION.size:
        raise _bad(file, "is too short", extension.offset)
    count, _, size, offset = _EXTENSION.unpack_from(extension.data)
    if count > _MAX_BITMAPS or size > _MAX_DIRECTORY or offset % header.cluster_size:
        raise _bad(file, f"tells of {count} bitmaps in {size} bytes at {offset}", extension.offset)
    directory = file.pread(offset, size, structure="bitmap directory")
    areas = [(offset, size, "bitmap directory")]
    at = total = 0
    for index in range(count):
        if at + _ENTRY.size > size:
            raise _bad(file, f"ends before entry {index}", offset + at, "bitmap directory")
        table_offset, entries, _flags, _type, _bits, name_length, extra = _ENTRY.unpack_from(directory, at)
        total += entries
        if total > _MAX_ENTRIES or table_offset % header.cluster_size:
            raise _bad(file, f"entry {index} has an impossible table", offset + at, "bitmap directory")
        at += -(-(_ENTRY.size + extra + name_length) // 8) * 8
        areas.append((table_offset, entries * 8, f"table of bitmap {index}"))
        words = load_table(file, table_offset, entries, f"table of bitmap {index}")
        places = words & np.uint64(OFFSET_MASK)
        areas += [(int(place), header.cluster_size, f"bitmap {index}") for place in places[places != 0]]
    return areas


def _bad(file: ImageFile, what: str, offset: int, structure: str = "bitmaps extension") -> MalformedImage:
    return MalformedImage(f"{file.path.name}: {structure} {what}", structure=structure, offset=offset)

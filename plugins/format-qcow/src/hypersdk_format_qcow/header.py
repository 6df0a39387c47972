"""The header of a QCOW image and its tables, parsed and judged into a Layer."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.twolevel import TwoLevel
from hypersdk.data.unitcodecs import inflate_raw
from hypersdk.data.unitmap import CODED, HOLE, PAGE_UNITS, PLAIN, Bounds, Entries, PagedMap
from hypersdk.errors import MalformedImage, Unsupported

_HEADER = struct.Struct(">4sIQIIQBB2xIQ")
_COMPRESSED = 1 << 63
_CLUSTER_BITS = range(9, 17)
_L2_BITS = range(6, 14)
_MAX_NAME = 1023


class Header(NamedTuple):
    """Offsets and sizes in bytes; `mtime` of the backing file, seconds since 1970."""

    magic: bytes
    version: int
    backing_file_offset: int
    backing_file_size: int
    mtime: int
    size: int
    cluster_bits: int
    l2_bits: int
    crypt_method: int
    l1_table_offset: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage; Unsupported (VERSION_UNSUPPORTED, ENCRYPTION_UNSUPPORTED)."""
    name = file.path.name
    header = Header(*_HEADER.unpack(file.pread(0, _HEADER.size, structure="header")))
    _judge(header, name)
    cluster_bits = header.cluster_bits
    table_entries = 1 << header.l2_bits
    entries = -(-header.size // (header.cluster_size * table_entries))
    tables = TwoLevel.load(file, ">u8", header.l1_table_offset, entries, table_entries)
    offset_bits = np.uint64(63 - cluster_bits)
    offset_mask = np.uint64((1 << (63 - cluster_bits)) - 1)
    size_mask = np.uint64(header.cluster_size - 1)

    def load(first: int, count: int) -> Entries:
        words = tables.read(first, count)
        kinds = np.where(words == 0, np.uint8(HOLE), np.uint8(PLAIN))
        coded = (words & np.uint64(_COMPRESSED)) != 0
        if not coded.any():
            return Entries(kinds, words)
        kinds[coded] = CODED
        stored = np.where(coded, (words >> offset_bits) & size_mask, np.uint64(0))
        return Entries(kinds, np.where(coded, words & offset_mask, words), stored)

    bounds = Bounds(file, header.size, _HEADER.size)
    units = PagedMap(
        bounds, header.cluster_size, load, tables=tables.numbers, table_units=table_entries, page_units=PAGE_UNITS
    )
    return Layer(
        units, header.size, header.cluster_size, _describe(header),
        decoders=(inflate_raw,), backing_name=_backing_name(file, header),
    )  # fmt: skip


def _judge(header: Header, name: str) -> None:
    if header.magic != b"QFI\xfb":
        raise _fault(name, "header", 0, "does not begin with QCOW's magic number")
    if header.version != 1:
        raise Unsupported(
            f"{name} is QCOW of version {header.version}; this plugin reads version 1, qcow2 the later ones",
            reason="VERSION_UNSUPPORTED",
        )
    if header.crypt_method:
        raise Unsupported(
            f"{name} is encrypted (method {header.crypt_method}); decrypt it with the software that wrote it",
            reason="ENCRYPTION_UNSUPPORTED",
        )
    if not 1 < header.size <= 1 << 62:
        raise _fault(name, "size", 24, f"{header.size} is impossible")
    if header.cluster_bits not in _CLUSTER_BITS:
        raise _fault(name, "cluster_bits", 32, f"{header.cluster_bits} is not from 9 to 16")
    if header.l2_bits not in _L2_BITS:
        raise _fault(name, "l2_bits", 33, f"{header.l2_bits} is not from 6 to 13")
    if header.l1_table_offset < _HEADER.size:
        raise _fault(name, "l1_table_offset", 40, f"{header.l1_table_offset} is within the header")


def _backing_name(file: ImageFile, header: Header) -> str | None:
    offset, length = header.backing_file_offset, header.backing_file_size
    if not offset:
        return None
    if offset < _HEADER.size or not 0 < length <= _MAX_NAME:
        raise _fault(file.path.name, "backing file name", offset, f"of {length} bytes is impossible")
    return file.pread(offset, length, structure="backing file name").decode("utf-8", "surrogateescape")


def _describe(header: Header) -> dict[str, Any]:
    return {
        "format": "qcow",
        "virtual_size": header.size,
        "cluster_size": header.cluster_size,
        "dirty": False,
        "details": {"version": 1, "l2_bits": header.l2_bits},
    }


def _fault(name: str, structure: str, offset: int, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure, offset=offset)

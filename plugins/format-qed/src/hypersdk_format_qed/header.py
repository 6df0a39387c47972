"""The header of a QED image and its tables, parsed and judged into a Layer."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.twolevel import TwoLevel
from hypersdk.data.unitmap import HOLE, PAGE_UNITS, PLAIN, ZERO, Bounds, Entries, PagedMap
from hypersdk.errors import MalformedImage, Unsupported

_HEADER = struct.Struct("<4s3I5Q2I")
_FEATURE_BACKING, _FEATURE_NEED_CHECK, _FEATURE_NO_PROBE = 1, 2, 4
_KNOWN_FEATURES = _FEATURE_BACKING | _FEATURE_NEED_CHECK | _FEATURE_NO_PROBE
_MIN_CLUSTER, _MAX_CLUSTER, _MAX_TABLE = 4 << 10, 64 << 20, 16
_MAX_NAME = 1023
_ZERO_CLUSTER = 1


class Header(NamedTuple):
    """Section "Header" of the specification. `table_size` and `header_size` are in clusters, the rest in bytes."""

    magic: bytes
    cluster_size: int
    table_size: int
    header_size: int
    features: int
    compat_features: int
    autoclear_features: int
    l1_table_offset: int
    image_size: int
    backing_filename_offset: int
    backing_filename_size: int

    @property
    def table_entries(self) -> int:
        return self.table_size * self.cluster_size // 8


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage; Unsupported (FEATURE_UNSUPPORTED) for incompatible feature bits that are not known."""
    name = file.path.name
    header = Header(*_HEADER.unpack(file.pread(0, _HEADER.size, structure="header")))
    _judge(header, name)
    if header.features & ~_KNOWN_FEATURES:
        raise Unsupported(
            f"{name}: feature bits {header.features & ~_KNOWN_FEATURES:#x} are not known; convert the image with the "
            "software that wrote it",
            reason="FEATURE_UNSUPPORTED",
        )
    cluster = header.cluster_size
    needed = -(-header.image_size // (header.table_entries * cluster))
    tables = TwoLevel.load(file, "<u8", header.l1_table_offset, needed, header.table_entries, align=cluster)
    bounds = Bounds(file, header.image_size, header.header_size * cluster)

    def load(first: int, count: int) -> Entries:
        words = tables.read(first, count)
        kinds = np.where(words == 0, np.uint8(HOLE), np.uint8(PLAIN))
        kinds[words == _ZERO_CLUSTER] = ZERO
        words[kinds != PLAIN] = 0
        crooked = np.flatnonzero(words % np.uint64(cluster))
        if len(crooked):
            at = first + int(crooked[0])
            raise _fault(name, f"L2 entry of cluster {at}", None, "is not on a cluster's border")
        return Entries(kinds, words)

    units = PagedMap(
        bounds, cluster, load, tables=tables.numbers, table_units=header.table_entries, page_units=PAGE_UNITS
    )
    return Layer(
        units, header.image_size, cluster, _describe(header),
        backing_name=_backing_name(file, header),
        backing_format="raw" if header.features & _FEATURE_NO_PROBE else "",
    )  # fmt: skip


def _judge(header: Header, name: str) -> None:
    cluster = header.cluster_size
    if header.magic != b"QED\0":
        raise _fault(name, "header", 0, "does not begin with QED's magic number")
    if not _MIN_CLUSTER <= cluster <= _MAX_CLUSTER or cluster & (cluster - 1):
        raise _fault(name, "cluster_size", 4, f"{cluster} is no power of two from {_MIN_CLUSTER} to {_MAX_CLUSTER}")
    if not 1 <= header.table_size <= _MAX_TABLE or header.table_size & (header.table_size - 1):
        raise _fault(name, "table_size", 8, f"{header.table_size} is no power of two from 1 to {_MAX_TABLE}")
    if not header.header_size:
        raise _fault(name, "header_size", 12, "is zero clusters")
    if header.l1_table_offset % cluster or header.l1_table_offset < cluster:
        raise _fault(name, "l1_table_offset", 40, f"{header.l1_table_offset} is not on a cluster's border")
    if header.image_size % 512 or header.image_size > min(header.table_entries**2 * cluster, 1 << 62):
        raise _fault(name, "image_size", 48, f"{header.image_size} is not a multiple of 512 that the tables can hold")


def _backing_name(file: ImageFile, header: Header) -> str | None:
    if not header.features & _FEATURE_BACKING:
        return None
    offset, length = header.backing_filename_offset, header.backing_filename_size
    inside = offset >= _HEADER.size and offset + length <= header.header_size * header.cluster_size
    if not 0 < length <= _MAX_NAME or not inside:
        raise _fault(file.path.name, "backing filename", offset, f"of {length} bytes is not inside the header")
    return file.pread(offset, length, structure="backing filename").decode("utf-8", "surrogateescape")


def _describe(header: Header) -> dict[str, Any]:
    return {
        "format": "qed",
        "virtual_size": header.image_size,
        "cluster_size": header.cluster_size,
        "dirty": bool(header.features & _FEATURE_NEED_CHECK),
        "details": {
            "table_size": header.table_size,
            "features": header.features,
            "compat_features": header.compat_features,
            "autoclear_features": header.autoclear_features,
        },
    }


def _fault(name: str, structure: str, offset: int | None, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure, offset=offset)

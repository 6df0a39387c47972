"""The header of a Parallels image and its block allocation table (BAT), parsed and judged into a Layer."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.unitmap import HOLE, PLAIN, Bounds, Entries, PagedMap
from hypersdk.errors import MalformedImage, Unsupported

_HEADER = struct.Struct("<16s5IQ3IQ")
_MAGIC, _MAGIC_EXT = b"WithoutFreeSpace", b"WithouFreSpacExt"
_SECTOR = 512
_IN_USE = 0x746F6E59
_MAX_CLUSTER = 1 << 30
_MAX_ENTRIES = 1 << 28
"""A table of 1 GiB: 256 TiB of disk with the usual clusters of 1 MiB."""


class Header(NamedTuple):
    """`tracks` is the cluster in sectors; `nb_sectors`, `data_off`, `ext_off` are sectors too."""

    magic: bytes
    version: int
    heads: int
    cylinders: int
    tracks: int
    bat_entries: int
    nb_sectors: int
    inuse: int
    data_off: int
    flags: int
    ext_off: int

    @property
    def extended(self) -> bool:
        return self.magic == _MAGIC_EXT

    @property
    def size(self) -> int:
        """Bytes. The older magic has only 32 bits of `nb_sectors`."""
        return (self.nb_sectors if self.extended else self.nb_sectors & 0xFFFFFFFF) * _SECTOR

    @property
    def cluster_size(self) -> int:
        return self.tracks * _SECTOR

    @property
    def data_start(self) -> int:
        """Bytes: where the first cluster may lie."""
        return max(_HEADER.size + 4 * self.bat_entries, self.data_off * _SECTOR if self.extended else 0)


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage; Unsupported (VERSION_UNSUPPORTED)."""
    header = Header(*_HEADER.unpack(file.pread(0, _HEADER.size, structure="header")))
    _judge(header, file)
    scale = np.uint64(header.cluster_size if header.extended else _SECTOR)

    def load(first: int, count: int) -> Entries:
        blob = file.pread(_HEADER.size + 4 * first, 4 * count, structure="BAT")
        entries = np.frombuffer(blob, "<u4").astype(np.uint64)
        return Entries(np.where(entries == 0, np.uint8(HOLE), np.uint8(PLAIN)), entries * scale)

    bounds = Bounds(file, header.size, header.data_start)
    units = PagedMap(bounds, header.cluster_size, load)
    granularity = header.cluster_size & -header.cluster_size  # old disks have clusters of 63 sectors
    return Layer(units, header.size, granularity, _describe(header))


def _judge(header: Header, file: ImageFile) -> None:
    name = file.path.name
    if header.magic not in {_MAGIC, _MAGIC_EXT}:
        raise _fault(name, "header", 0, "does not begin with Parallels' magic number")
    if header.version != 2:
        raise Unsupported(
            f"{name}: Parallels images of version {header.version} are not known, only of version 2",
            reason="VERSION_UNSUPPORTED",
        )
    if not 0 < header.cluster_size <= _MAX_CLUSTER:
        raise _fault(name, "tracks", 28, f"{header.tracks} sectors are no size of a cluster")
    if header.size > 1 << 62:
        raise _fault(name, "nb_sectors", 36, f"{header.nb_sectors} are more than a file can describe")
    if header.bat_entries > _MAX_ENTRIES:
        raise _fault(name, "bat_entries", 32, f"{header.bat_entries} are more than {_MAX_ENTRIES}")
    if header.bat_entries * header.cluster_size < header.size:
        raise _fault(name, "bat_entries", 32, f"{header.bat_entries} are too few for {header.size} bytes")
    if _HEADER.size + 4 * header.bat_entries > file.size:
        raise MalformedImage(
            f"{name}: BAT of {header.bat_entries} entries is longer than the file; it is truncated",
            structure="BAT", offset=_HEADER.size, reason="IMAGE_TRUNCATED",
        )  # fmt: skip


def _describe(header: Header) -> dict[str, Any]:
    return {
        "format": "parallels",
        "virtual_size": header.size,
        "cluster_size": header.cluster_size,
        "dirty": header.inuse == _IN_USE,
        "details": {
            "magic": header.magic.decode("ascii"),
            "bat_entries": header.bat_entries,
            "cylinders": header.cylinders,
            "heads": header.heads,
            "format_extension": header.ext_off != 0,
        },
    }


def _fault(name: str, structure: str, offset: int, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure, offset=offset)

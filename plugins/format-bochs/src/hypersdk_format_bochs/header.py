"""The header of a Bochs growing image, its catalog and its extents' bitmaps, parsed and judged into a Layer.

Extents are appended as they are first written. Each has a bitmap of its sectors before its data; a sector whose bit
is clear was never written and reads as zeros.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.unitmap import I64, PAGE_UNITS, PLAIN, U8, Bounds, Entries, PagedMap
from hypersdk.errors import MalformedImage, Unsupported

_HEADER = struct.Struct("<32s16s16s5I")
_DISK = struct.Struct("<Q")
_DISK_OFFSETS = {0x00010000: _HEADER.size, 0x00020000: _HEADER.size + 4}
"""Where the disk's size is, by version: the second has a time stamp before it."""
_MIN_HEADER = 96
_SECTOR = 512
_UNALLOCATED = 0xFFFFFFFF
_SPAN = 8 << 20
_MAX_CATALOG, _MAX_EXTENT, _MAX_BITMAP = 1 << 20, 8 << 20, 1 << 20


class Header(NamedTuple):
    """`header`, `bitmap`, `extent` and `disk` in bytes; `catalog` in entries."""

    magic: bytes
    kind: bytes
    subtype: bytes
    version: int
    header: int
    catalog: int
    bitmap: int
    extent: int
    disk: int

    @property
    def data_start(self) -> int:
        return self.header + 4 * self.catalog

    @property
    def bitmap_bytes(self) -> int:
        """In the file, whole sectors."""
        return -(-self.bitmap // _SECTOR) * _SECTOR


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage; Unsupported (VERSION_UNSUPPORTED, SUBTYPE_UNSUPPORTED)."""
    header = _read_header(file)
    _judge(header, file)
    catalog = np.frombuffer(file.pread(header.header, 4 * header.catalog, structure="catalog"), "<u4")
    used = np.flatnonzero(catalog != _UNALLOCATED)
    if len(np.unique(catalog[used])) != len(used):
        raise _fault(file.path.name, "catalog", header.header, "gives one place in the file to two extents")
    sectors = header.extent // _SECTOR
    page_extents = max(1, PAGE_UNITS // sectors)
    reader = _Extents(file, header, catalog, sectors)
    units = PagedMap(
        Bounds(file, header.disk, header.data_start, "sector"), _SECTOR, reader.load,
        tables=np.unique(used // page_extents).astype(np.int64), table_units=page_extents * sectors,
        page_units=page_extents * sectors,
    )  # fmt: skip
    return Layer(units, header.disk, header.extent, _describe(header))


class _Extents(NamedTuple):
    file: ImageFile
    header: Header
    catalog: npt.NDArray[np.uint32]
    sectors: int

    def load(self, first: int, count: int) -> Entries:
        """`first` is on an extent's border."""
        sectors = self.sectors
        numbers = self.catalog[first // sectors : -(-(first + count) // sectors)]
        kinds = np.zeros((len(numbers), sectors), np.uint8)
        places = np.zeros((len(numbers), sectors), np.uint64)
        used = np.flatnonzero(numbers != _UNALLOCATED)
        if len(used):
            bitmap_bytes = self.header.bitmap_bytes
            starts = numbers[used].astype(np.int64) * (bitmap_bytes + self.header.extent) + self.header.data_start
            written = np.unpackbits(self._bitmaps(starts), axis=1, count=sectors, bitorder="little")
            steps = np.arange(sectors, dtype=np.int64) * _SECTOR + bitmap_bytes
            kinds[used] = written * np.uint8(PLAIN)
            places[used] = (starts[:, None] + steps) * written
        return Entries(kinds.reshape(-1)[:count], places.reshape(-1)[:count])

    def _bitmaps(self, starts: I64) -> U8:
        """A row for each; all in one read where they lie near to each other."""
        width = -(-self.sectors // 8)
        low, high = int(starts.min()), int(starts.max()) + width
        if high - low <= _SPAN:
            blob = np.frombuffer(self.file.pread(low, high - low, structure="extents' bitmaps"), np.uint8)
            near: U8 = blob[(starts - low)[:, None] + np.arange(width)]
            return near
        rows = [self.file.pread(at, width, structure="extent's bitmap") for at in starts.tolist()]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, width)


def _read_header(file: ImageFile) -> Header:
    fields = _HEADER.unpack(file.pread(0, _HEADER.size, structure="header"))
    version = fields[3]
    offset = _DISK_OFFSETS.get(version)
    if offset is None:
        raise Unsupported(
            f"{file.path.name}: Bochs images of version {version:#x} are not known, only 1 and 2",
            reason="VERSION_UNSUPPORTED",
        )
    return Header(*fields, *_DISK.unpack(file.pread(offset, _DISK.size, structure="header")))


def _judge(header: Header, file: ImageFile) -> None:
    name = file.path.name
    if header.magic.partition(b"\0")[0] != b"Bochs Virtual HD Image" or header.kind.partition(b"\0")[0] != b"Redolog":
        raise _fault(name, "header", 0, "is not of a Bochs redolog")
    if (subtype := header.subtype.partition(b"\0")[0]) != b"Growing":
        raise Unsupported(
            f"{name} is a Bochs redolog of subtype {subtype.decode('ascii', 'replace')!r}, which holds only the "
            "changes to another disk; commit it with bximage first",
            reason="SUBTYPE_UNSUPPORTED",
        )
    if header.header < _MIN_HEADER:
        raise _fault(name, "header", 68, f"has a length of {header.header}, less than its fields")
    if header.catalog > _MAX_CATALOG or header.data_start > file.size:
        raise MalformedImage(
            f"{name}: catalog of {header.catalog} entries does not fit into the file or is larger than {_MAX_CATALOG}",
            structure="catalog", offset=72,
            reason="IMAGE_MALFORMED" if header.catalog > _MAX_CATALOG else "IMAGE_TRUNCATED",
        )  # fmt: skip
    if not _SECTOR <= header.extent <= _MAX_EXTENT or header.extent & (header.extent - 1):
        raise _fault(name, "extent size", 80, f"{header.extent} is no power of two from {_SECTOR} to {_MAX_EXTENT}")
    if not header.extent <= header.bitmap * 8 * _SECTOR <= _MAX_BITMAP * 8 * _SECTOR:
        raise _fault(name, "bitmap size", 76, f"{header.bitmap} does not fit to extents of {header.extent} bytes")
    if header.disk % _SECTOR or header.disk > header.catalog * header.extent:
        offset = _DISK_OFFSETS[header.version]
        raise _fault(name, "disk size", offset, f"{header.disk} is not a multiple of 512 that the catalog can hold")


def _describe(header: Header) -> dict[str, Any]:
    return {
        "format": "bochs",
        "subformat": "growing",
        "virtual_size": header.disk,
        "cluster_size": header.extent,
        "dirty": False,
        "details": {"version": header.version >> 16, "catalog_entries": header.catalog},
    }


def _fault(name: str, structure: str, offset: int, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure, offset=offset)

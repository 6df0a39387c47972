"""The header of a hosted sparse extent ("KDMV"): 512 bytes at the start of the file, and again in a stream's footer.

VDF 5.0, "Hosted Sparse Extent" and "Stream-Optimized Compressed Sparse Extents". Not here: the tables it points at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vmdk.geometry import IMPOSSIBLE, ZEROED, Decoder, Entries, GrainGeometry, Raw
from hypersdk_format_vmdk.layout import HOSTED_MAGIC, SECTOR

FLAG_NEWLINES = 1 << 0
FLAG_REDUNDANT = 1 << 1
FLAG_ZERO_GRAIN = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17

DIRECTORY_AT_END = 0xFFFFFFFFFFFFFFFF
COMPRESS_DEFLATE = 1
TABLE_ENTRIES = 512

_LAYOUT = struct.Struct("<4sIIQQQQIQQQB4sH")
_NEWLINES = b"\n \r\n"
_MAX_SECTORS = 1 << 54


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """As stored: positions and sizes in sectors, except `table_entries`. `overhead` is the first grain's sector."""

    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_offset: int
    descriptor_size: int
    table_entries: int
    redundant_offset: int
    directory_offset: int
    overhead: int
    dirty: bool = False
    compression: int = 0

    @property
    def compressed(self) -> bool:
        return self.compression == COMPRESS_DEFLATE

    @property
    def directory_at_end(self) -> bool:
        return self.directory_offset == DIRECTORY_AT_END

    def pack(self) -> bytes:
        head = _LAYOUT.pack(
            HOSTED_MAGIC, self.version, self.flags, self.capacity, self.grain, self.descriptor_offset,
            self.descriptor_size, self.table_entries, self.redundant_offset, self.directory_offset, self.overhead,
            self.dirty, _NEWLINES, self.compression,
        )  # fmt: skip
        return head.ljust(SECTOR, b"\0")

    def geometry(self, name: str) -> GrainGeometry:
        """The tables' geometry. Raises MalformedImage for impossible sizes."""
        if self.table_entries > TABLE_ENTRIES:
            raise MalformedImage(
                f"{name}: sparse header has {self.table_entries} entries in a grain table; {TABLE_ENTRIES} is the most",
                structure="sparse header", offset=44,
            )  # fmt: skip
        descriptor_end = self.descriptor_offset + self.descriptor_size if self.descriptor_offset else 1
        geometry = GrainGeometry(
            capacity=self.capacity * SECTOR,
            grain=self.grain * SECTOR,
            entries=self.table_entries,
            entry_bytes=4,
            directory_offset=self.directory_offset * SECTOR,
            redundant_offset=self.redundant_offset * SECTOR if self.flags & FLAG_REDUNDANT else 0,
            lowest=max(1, descriptor_end) * SECTOR,
            compressed=self.compressed,
            data_start=0 if self.compressed else self.overhead * SECTOR,
            decode_directory=sector_decoder(zero_mark=bool(self.flags & FLAG_ZERO_GRAIN)),
            decode_table=sector_decoder(zero_mark=bool(self.flags & FLAG_ZERO_GRAIN)),
        )
        geometry.validate(name, "sparse header")
        return geometry


def parse_header(file: ImageFile, offset: int = 0, structure: str = "sparse header") -> SparseHeader:
    """The header at byte `offset`. Raises MalformedImage, Unsupported (version, compression without markers)."""
    name = file.path.name
    raw = file.pread(offset, SECTOR, structure=structure)
    (magic, version, flags, capacity, grain, descriptor, descriptor_size, entries, redundant, directory, overhead,
     dirty, newlines, compression) = _LAYOUT.unpack_from(raw)  # fmt: skip

    def fault(what: str, at: int) -> MalformedImage:
        return MalformedImage(f"{name}: {structure} {what}", structure=structure, offset=offset + at)

    if magic != HOSTED_MAGIC:
        raise fault("does not begin with KDMV", 0)
    if not 1 <= version <= 3:
        raise Unsupported(
            f"{name}: VMDK sparse extents of version {version} are not known; 1 to 3 are",
            reason="IMAGE_VERSION_UNSUPPORTED", metadata={"version": str(version)},
        )  # fmt: skip
    if flags & FLAG_NEWLINES and newlines != _NEWLINES:
        raise fault("was changed by a transfer in text mode: its line-end bytes are not intact", 73)
    if compression > COMPRESS_DEFLATE:
        raise Unsupported(
            f"{name}: compression method {compression} is not known", reason="IMAGE_COMPRESSION_UNSUPPORTED"
        )
    if bool(flags & FLAG_COMPRESSED) != (compression == COMPRESS_DEFLATE):
        raise fault("says in its flags and in its compression method different things of compression", 77)
    if compression and not flags & FLAG_MARKERS:
        raise Unsupported(
            f"{name}: compressed grains without markers are not known", reason="IMAGE_COMPRESSION_UNSUPPORTED"
        )
    for value, at in ((capacity, 12), (grain, 20), (descriptor, 28), (descriptor_size, 36), (redundant, 48),
                      (directory, 56), (overhead, 64)):  # fmt: skip
        if value > _MAX_SECTORS and (at, value) != (56, DIRECTORY_AT_END):
            raise fault(f"has the impossible number {value} at byte {at}", at)
    return SparseHeader(
        version, flags, capacity, grain, descriptor, descriptor_size, entries, redundant, directory, overhead,
        bool(dirty), compression,
    )  # fmt: skip


def sector_decoder(*, zero_mark: bool) -> Decoder:
    """Entries that are sector numbers of 32 bits: 0 unallocated and, with `zero_mark`, 1 zeroed. Without it 1 would be
    the descriptor's sector, so it is impossible."""
    one = ZEROED if zero_mark else IMPOSSIBLE

    def decode(raw: Raw) -> Entries:
        entries = raw.astype("int64")
        entries *= SECTOR
        entries[raw == 1] = one
        return entries

    return decode

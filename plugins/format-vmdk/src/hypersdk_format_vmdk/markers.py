"""Markers and the footer of a stream-optimized extent (VDF 5.0, "Stream-Optimized Compressed Sparse Extents").

    grain        the grain's first sector (u64), size (u32 > 0), so many bytes of zlib stream, padded to a sector
    metadata     sectors that follow (u64), 0 (u32), type (u32), padded to a sector
    end          a sector of zeros

Not here: compressing and decompressing (`grains`).
"""

from __future__ import annotations

import struct

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_vmdk.header import SparseHeader, parse_header
from hypersdk_format_vmdk.layout import SECTOR

END_OF_STREAM, GRAIN_TABLE, GRAIN_DIRECTORY, FOOTER = range(4)

GRAIN_MARKER = struct.Struct("<QI")
MARKER_HEAD = GRAIN_MARKER.size

_METADATA_MARKER = struct.Struct("<QII")


def metadata_marker(kind: int, sectors: int) -> bytes:
    """The marker before `sectors` sectors of metadata, itself one sector."""
    return _METADATA_MARKER.pack(sectors, 0, kind).ljust(SECTOR, b"\0")


def read_footer(file: ImageFile, header: SparseHeader) -> SparseHeader:
    """The header that a stream carries at its end, which wins over the one at its start. It is the last but one
    sector, between the footer marker and the end-of-stream marker: a stream cut anywhere lacks it.

    Raises MalformedImage (IMAGE_TRUNCATED)."""
    name, size = file.path.name, file.size

    def fault(what: str, at: int) -> MalformedImage:
        return MalformedImage(
            f"{name}: its header promises a footer at the end of the stream, but {what}; the stream was cut short or "
            "its end is corrupt, so fetch the file again",
            structure="footer", offset=max(0, at), reason="IMAGE_TRUNCATED",
        )  # fmt: skip

    start = size - 3 * SECTOR
    if size % SECTOR or start < SECTOR:
        raise fault(f"a file of {size} bytes cannot have one", start)
    _, length, kind = _METADATA_MARKER.unpack_from(file.pread(start, SECTOR, structure="footer marker"))
    if length or kind != FOOTER:
        raise fault("there is no footer marker", start)
    if any(file.pread(start + 2 * SECTOR, 16, structure="end-of-stream marker")):
        raise fault("there is no end-of-stream marker", start + 2 * SECTOR)
    footer = parse_header(file, start + SECTOR, "footer")
    if footer.directory_at_end:
        raise fault("the footer names no grain directory either", start + SECTOR)
    same = ("capacity", "grain", "table_entries", "compression", "flags")
    if any(getattr(footer, field) != getattr(header, field) for field in same):
        raise MalformedImage(
            f"{name}: footer at offset {start + SECTOR} contradicts the header at the start",
            structure="footer", offset=start + SECTOR,
        )  # fmt: skip
    return footer

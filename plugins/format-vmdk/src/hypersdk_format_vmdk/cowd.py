"""The header of a vmfsSparse extent ("COWD"), the redo log of ESX: 2 KiB at the start of the file.

The format has no public specification; field positions as observed by libvmdk and others. The parent's name in the
header is not looked at: products leave it empty, and the descriptor names the parent.
"""

from __future__ import annotations

import struct

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vmdk.geometry import GrainGeometry
from hypersdk_format_vmdk.header import sector_decoder
from hypersdk_format_vmdk.layout import COWD_MAGIC, SECTOR

_LAYOUT = struct.Struct("<4sIIIIIII")
_HEADER_BYTES = 2048
_TABLE_ENTRIES = 4096
STRUCTURE = "COWD header"


def parse_cowd(file: ImageFile) -> GrainGeometry:
    """Raises MalformedImage, Unsupported (version)."""
    name = file.path.name
    raw = file.pread(0, _HEADER_BYTES, structure=STRUCTURE)
    magic, version, _flags, capacity, grain, directory, entries, _free = _LAYOUT.unpack_from(raw)
    if magic != COWD_MAGIC:
        raise MalformedImage(f"{name}: {STRUCTURE} does not begin with COWD", structure=STRUCTURE, offset=0)
    if version != 1:
        raise Unsupported(
            f"{name}: COWD extents of version {version} are not known", reason="IMAGE_VERSION_UNSUPPORTED"
        )
    geometry = GrainGeometry(
        capacity=capacity * SECTOR,
        grain=grain * SECTOR,
        entries=_TABLE_ENTRIES,
        entry_bytes=4,
        directory_offset=directory * SECTOR,
        lowest=_HEADER_BYTES,
        decode_directory=sector_decoder(zero_mark=False),
        decode_table=sector_decoder(zero_mark=False),
    )
    geometry.validate(name, STRUCTURE)
    if entries < geometry.tables:
        raise MalformedImage(
            f"{name}: {STRUCTURE} has {entries} grain directory entries, but its capacity needs {geometry.tables}",
            structure=STRUCTURE, offset=24,
        )  # fmt: skip
    return geometry

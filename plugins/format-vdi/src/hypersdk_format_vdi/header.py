"""The VDI header: text, signature, version, then the fields of version 1 ("VDIHEADER1PLUS" of 400 bytes; older images
have the same without the last geometry). Parsed, judged and made."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vdi.layout import (
    MAJOR_VERSION,
    MAX_BLOCK,
    MAX_ENTRIES,
    SECTOR,
    SIGNATURE,
    SIGNATURE_AT,
    TYPE_DIFFERENCING,
    TYPE_DYNAMIC,
    TYPE_STATIC,
    TYPE_UNDO,
)

_FIELDS = struct.Struct("<64s4sIIII256sIIIIIIIQIIII16s16s16s16sIIII")
_TEXT = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
_WRITTEN_VERSION = 0x00010001
_HEADER_BYTES = 400
_SMALLEST_HEADER = 0x180 - 8  # up to the UUIDs' end, counted from the field itself
HEADER_SECTOR_BYTES = 512
ALLOCATED_AT = 0x184

NO_UUID = UUID(int=0)
KINDS = {TYPE_DYNAMIC: "dynamic", TYPE_STATIC: "static", TYPE_DIFFERENCING: "differencing"}


@dataclass(frozen=True, slots=True)
class Header:
    """Sizes and offsets in bytes. `extra`: bytes of other uses in front of each block's data.

    uuid, modification        of this disk, and of its last change
    parent, parent_modification   the same of the parent, NO_UUID without one
    """

    kind: int
    size: int
    block: int
    blocks: int
    allocated: int
    map_offset: int
    data_offset: int
    uuid: UUID
    modification: UUID
    parent: UUID = NO_UUID
    parent_modification: UUID = NO_UUID
    extra: int = 0
    flags: int = 0
    description: str = ""
    version: int = _WRITTEN_VERSION

    @property
    def stride(self) -> int:
        return self.extra + self.block

    @property
    def has_parent(self) -> bool:
        return self.kind == TYPE_DIFFERENCING or self.parent != NO_UUID

    def pack(self) -> bytes:
        cylinders = min(16383, max(1, self.size // (16 * 63 * SECTOR)))
        return _FIELDS.pack(
            _TEXT, SIGNATURE, self.version, _HEADER_BYTES, self.kind, self.flags, b"", self.map_offset,
            self.data_offset, 0, 0, 0, SECTOR, 0, self.size, self.block, self.extra, self.blocks, self.allocated,
            self.uuid.bytes_le, self.modification.bytes_le, self.parent.bytes_le, self.parent_modification.bytes_le,
            cylinders, 16, 63, SECTOR,
        ).ljust(HEADER_SECTOR_BYTES, b"\0")  # fmt: skip


def read_header(file: ImageFile) -> Header:
    """Raises MalformedImage, Unsupported (IMAGE_VERSION_UNSUPPORTED, IMAGE_LAYOUT_UNSUPPORTED)."""
    name = file.path.name
    raw = file.pread(0, HEADER_SECTOR_BYTES, structure="header")

    def fault(what: str, at: int) -> MalformedImage:
        return MalformedImage(f"{name}: header has {what}", structure="header", offset=at)

    if raw[SIGNATURE_AT : SIGNATURE_AT + 4] != SIGNATURE:
        raise fault("no signature 7f 10 da be", SIGNATURE_AT)
    fields = _FIELDS.unpack_from(raw)
    _, _, version, length, kind, flags, text, map_offset, data_offset, _, _, _, sector, _, size, *rest = fields
    block, extra, blocks, allocated, *identity = rest
    if version >> 16 != MAJOR_VERSION:
        raise Unsupported(
            f"{name}: VDI version {version >> 16}.{version & 0xFFFF} is not known; 1.x is. VirtualBox converts it: "
            "`VBoxManage clonemedium`", reason="IMAGE_VERSION_UNSUPPORTED",
        )  # fmt: skip
    if kind == TYPE_UNDO:
        raise Unsupported(f"{name} is an undo image, which no product writes", reason="IMAGE_LAYOUT_UNSUPPORTED")
    if length < _SMALLEST_HEADER:
        raise fault(f"an impossible length of {length} bytes", 0x48)
    if kind not in KINDS:
        raise fault(f"the unknown image type {kind}", 0x4C)
    if sector != SECTOR:
        raise fault(f"sectors of {sector} bytes; {SECTOR} are possible", 0x168)
    if block < SECTOR or block & (block - 1) or block > MAX_BLOCK:
        raise fault(f"an impossible block size of {block} bytes", 0x178)
    if extra > MAX_BLOCK:
        raise fault(f"{extra} extra bytes in front of each block", 0x17C)
    if size == 0 or not 0 < blocks <= MAX_ENTRIES:
        raise fault(f"an impossible size of {size} bytes in {blocks} blocks; {MAX_ENTRIES} blocks are the most", 0x170)
    if blocks < -(-size // block):
        raise fault(f"{blocks} blocks of {block} bytes, which cannot hold {size} bytes", 0x180)
    if map_offset < HEADER_SECTOR_BYTES and map_offset < 0x48 + length:
        raise fault(f"a block map at offset {map_offset}, inside the header", 0x154)
    if data_offset < map_offset + blocks * 4:
        raise fault(f"data at offset {data_offset}, inside the block map", 0x158)
    uuid, modification, parent, parent_modification = (UUID(bytes_le=value) for value in identity[:4])
    return Header(
        kind, size, block, blocks, allocated, map_offset, data_offset, uuid, modification, parent,
        parent_modification, extra=extra, flags=flags, description=text.split(b"\0")[0].decode("utf-8", "replace"),
        version=version,
    )  # fmt: skip

"""The dynamic disk header of dynamic and differencing disks (VHD 1.0, "Dynamic Disk Header Format")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vpc.footer import checksum_matches, with_checksum
from hypersdk_format_vpc.layout import (
    HEADER_BYTES,
    HEADER_COOKIE,
    MAX_BLOCK,
    MAX_ENTRIES,
    NOWHERE,
    SECTOR,
    VERSION,
)

_FIELDS = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")
_LOCATORS_AT = 576
_LOCATORS = 8
_CHECKSUM_AT = 36


NO_PARENT = UUID(int=0)


class Locator(NamedTuple):
    """One way to the parent: a platform code, and where its text lies in the file, bytes."""

    code: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """`table_offset` in the file and `block`, both bytes; `parent_timestamp` in seconds since 2000."""

    table_offset: int
    entries: int
    block: int
    parent_uuid: UUID = NO_PARENT
    parent_timestamp: int = 0
    parent_name: str = ""
    locators: tuple[Locator, ...] = ()

    @property
    def bitmap_bytes(self) -> int:
        """The sector bitmap in front of each block: a bit for a sector, in whole sectors."""
        return -(-self.block // SECTOR // 8 // SECTOR) * SECTOR

    def pack(self) -> bytes:
        """Of a disk without a parent: we write no others."""
        raw = _FIELDS.pack(
            HEADER_COOKIE, NOWHERE, self.table_offset, VERSION, self.entries, self.block, 0, bytes(16), 0, 0, b""
        )
        return with_checksum(raw.ljust(HEADER_BYTES, b"\0"), _CHECKSUM_AT)


def parse_header(raw: bytes, name: str, offset: int) -> DynamicHeader:
    """The header in `raw`, 1,024 bytes that lie at `offset`. Raises MalformedImage, Unsupported."""

    def fault(what: str, at: int) -> MalformedImage:
        return MalformedImage(
            f"{name}: dynamic disk header at offset {offset} has {what}", structure="dynamic disk header",
            offset=offset + at,
        )  # fmt: skip

    if not raw.startswith(HEADER_COOKIE):
        raise fault("no cookie 'cxsparse'", 0)
    if not checksum_matches(raw, _CHECKSUM_AT):
        raise fault("a wrong checksum", _CHECKSUM_AT)
    _, _, table, version, entries, block, _, uuid, timestamp, _, parent = _FIELDS.unpack_from(raw)
    if version >> 16 != VERSION >> 16:
        raise Unsupported(
            f"{name}: dynamic disk header version {version >> 16}.{version & 0xFFFF} is not known; 1.0 is",
            reason="IMAGE_VERSION_UNSUPPORTED",
        )
    if block < SECTOR or block & (block - 1) or block > MAX_BLOCK:
        raise fault(f"an impossible block size of {block} bytes", 32)
    if not 0 < entries <= MAX_ENTRIES:
        raise fault(f"a table of {entries} entries; from 1 to {MAX_ENTRIES} are possible", 28)
    if table % SECTOR:
        raise fault(f"a table at offset {table}, which is not at a sector", 16)
    return DynamicHeader(
        table, entries, block, UUID(bytes=uuid), timestamp,
        parent.decode("utf-16-be", "replace").split("\0")[0], _locators(raw),
    )  # fmt: skip


def _locators(raw: bytes) -> tuple[Locator, ...]:
    found = []
    for number in range(_LOCATORS):
        code, _space, length, _, offset = _LOCATOR.unpack_from(raw, _LOCATORS_AT + number * _LOCATOR.size)
        if code != bytes(4) and length:
            found.append(Locator(code, offset, length))
    return tuple(found)

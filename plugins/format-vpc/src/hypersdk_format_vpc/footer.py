"""The hard disk footer: the last 512 bytes of every VHD, and the first 512 of those that are not fixed (VHD 1.0,
"Hard Disk Footer Format"). Parsed, judged and made."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vpc.geometry import Geometry, is_possible
from hypersdk_format_vpc.layout import (
    FOOTER_BYTES,
    FOOTER_COOKIE,
    MAX_SIZE,
    SECTOR,
    TYPE_DIFFERENCING,
    TYPE_DYNAMIC,
    TYPE_FIXED,
    VERSION,
)

_FIELDS = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_CHECKSUM_AT = 64
_RESERVED_FEATURE = 2  # VHD 1.0: "this bit must always be set to 1"

KINDS = {TYPE_FIXED: "fixed", TYPE_DYNAMIC: "dynamic", TYPE_DIFFERENCING: "differencing"}


@dataclass(frozen=True, slots=True)
class Footer:
    """`current_size` in bytes, `data_offset` of the dynamic header in the file, `timestamp` in seconds since 2000."""

    kind: int
    current_size: int
    original_size: int
    geometry: Geometry
    data_offset: int
    timestamp: int
    creator: bytes
    creator_version: int
    creator_system: bytes
    uuid: UUID
    saved_state: bool = False

    def pack(self) -> bytes:
        raw = _FIELDS.pack(
            FOOTER_COOKIE, _RESERVED_FEATURE, VERSION, self.data_offset, self.timestamp, self.creator,
            self.creator_version, self.creator_system, self.original_size, self.current_size, *self.geometry,
            self.kind, 0, self.uuid.bytes, self.saved_state,
        ).ljust(FOOTER_BYTES, b"\0")  # fmt: skip
        return with_checksum(raw, _CHECKSUM_AT)


def parse_footer(raw: bytes, name: str, offset: int) -> Footer:
    """The footer in `raw`, 512 bytes that lie at `offset`. Raises MalformedImage, Unsupported."""

    def fault(what: str, at: int = 0) -> MalformedImage:
        return MalformedImage(
            f"{name}: footer at offset {offset} has {what}", structure="footer", offset=offset + at
        )

    if len(raw) != FOOTER_BYTES or not raw.startswith(FOOTER_COOKIE):
        raise fault("no cookie 'conectix'")
    if not checksum_matches(raw, _CHECKSUM_AT):
        raise fault("a wrong checksum", _CHECKSUM_AT)
    fields = _FIELDS.unpack_from(raw)
    _, _, version, data_offset, timestamp, creator, creator_version, system, original, current, *rest = fields
    cylinders, heads, sectors, kind, _, uuid, saved = rest
    if version >> 16 != VERSION >> 16:
        raise Unsupported(
            f"{name}: VHD version {version >> 16}.{version & 0xFFFF} is not known; 1.0 is",
            reason="IMAGE_VERSION_UNSUPPORTED",
        )
    if kind not in KINDS:
        raise fault(f"the unknown disk type {kind}", 60)
    if not is_possible(current) or current % SECTOR:
        raise fault(f"an impossible size of {current} bytes; from {SECTOR} to {MAX_SIZE} are possible", 48)
    return Footer(
        kind, current, original, Geometry(cylinders, heads, sectors), data_offset, timestamp, creator,
        creator_version, system, UUID(bytes=uuid), bool(saved),
    )  # fmt: skip


def new_footer(kind: int, size: int, geometry: Geometry, *, uuid: UUID, timestamp: int, data_offset: int) -> Footer:
    """`data_offset` NOWHERE for a fixed disk."""
    return Footer(
        kind, size, size, geometry, data_offset, timestamp, creator=b"hsdk", creator_version=VERSION,
        creator_system=b"Wi2k", uuid=uuid,
    )  # fmt: skip


def checksum_matches(raw: bytes, at: int) -> bool:
    """One's complement of the sum of all bytes but the checksum's own four."""
    return int.from_bytes(raw[at : at + 4], "big") == ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF


def with_checksum(raw: bytes, at: int) -> bytes:
    blank = raw[:at] + bytes(4) + raw[at + 4 :]
    return blank[:at] + (~sum(blank) & 0xFFFFFFFF).to_bytes(4, "big") + blank[at + 4 :]



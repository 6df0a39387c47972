"""The file type identifier and the two headers (2.2.1, 2.2.2).

Of two headers with a right checksum the one with the higher sequence number is current. What the log they name holds is
`log`'s affair.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vhdx.crc32c import checksum_of
from hypersdk_format_vhdx.layout import (
    CREATOR_BYTES,
    FILE_MAGIC,
    HEADER_BYTES,
    HEADER_OFFSETS,
    HEADER_SECTION_BYTES,
    MIB,
    NIL,
)

_SIGNATURE = b"head"
_FIELDS = struct.Struct("<4sIQ16s16s16sHHIQ")


@dataclass(frozen=True, slots=True)
class Header:
    """One header, its checksum verified. log_offset and log_length in bytes."""

    sequence: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID
    log_version: int
    version: int
    log_length: int
    log_offset: int

    @property
    def dirty(self) -> bool:
        """The log may hold updates that the file lacks."""
        return self.log_guid != NIL

    def pack(self) -> bytes:
        raw = bytearray(HEADER_BYTES)
        _FIELDS.pack_into(
            raw, 0, _SIGNATURE, 0, self.sequence, self.file_write_guid.bytes_le, self.data_write_guid.bytes_le,
            self.log_guid.bytes_le, self.log_version, self.version, self.log_length, self.log_offset,
        )  # fmt: skip
        struct.pack_into("<I", raw, 4, checksum_of(raw))
        return bytes(raw)


@dataclass(frozen=True, slots=True)
class Headers:
    """current   the header in force
    valid     which of the two copies have the right signature and checksum
    creator   what the program that made the file calls itself
    """

    current: Header
    valid: tuple[bool, bool]
    creator: str


def read_headers(file: ImageFile) -> Headers:
    """Raises MalformedImage, Unsupported (VERSION_UNSUPPORTED)."""
    identifier = file.pread(0, len(FILE_MAGIC) + CREATOR_BYTES, structure="file type identifier")
    if not identifier.startswith(FILE_MAGIC):
        raise MalformedImage(
            f"{file.path.name} does not begin with {FILE_MAGIC.decode()!r}; it is no VHDX image",
            structure="file type identifier", offset=0,
        )  # fmt: skip
    found = [_read_copy(file, offset) for offset in HEADER_OFFSETS]
    first, second = found
    valid = [header for header in found if header is not None]
    if not valid:
        raise MalformedImage(
            f"{file.path.name}: neither of the two headers has a right signature and checksum; the file is damaged",
            structure="header", offset=HEADER_OFFSETS[0],
        )  # fmt: skip
    if len(valid) == 2 and valid[0].sequence == valid[1].sequence and valid[0] != valid[1]:
        raise MalformedImage(
            f"{file.path.name}: both headers have sequence number {valid[0].sequence}, but differ; none is current",
            structure="header", offset=HEADER_OFFSETS[1],
        )  # fmt: skip
    current = max(valid, key=lambda header: header.sequence)
    _judge(file, current, HEADER_OFFSETS[found.index(current)])
    creator = identifier[len(FILE_MAGIC) :].decode("utf-16-le", "replace").partition("\0")[0]
    return Headers(current, (first is not None, second is not None), creator)


def _read_copy(file: ImageFile, offset: int) -> Header | None:
    raw = file.pread(offset, HEADER_BYTES, structure="header")
    signature, checksum, sequence, file_guid, data_guid, log_guid, *rest = _FIELDS.unpack_from(raw)
    if signature != _SIGNATURE or checksum != checksum_of(raw):
        return None
    identity, content, log = (UUID(bytes_le=guid) for guid in (file_guid, data_guid, log_guid))
    return Header(sequence, identity, content, log, *rest)


def _judge(file: ImageFile, header: Header, offset: int) -> None:
    if header.version != 1 or (header.dirty and header.log_version != 0):
        raise Unsupported(
            f"{file.path.name} is of VHDX version {header.version} with a log of version {header.log_version}; only "
            "versions 1 and 0 are read",
            reason="VERSION_UNSUPPORTED",
        )
    if header.log_length % MIB or header.log_offset % MIB or header.log_offset < HEADER_SECTION_BYTES:
        fault = f"is at offset {header.log_offset} with {header.log_length} bytes; both are whole MiB behind the header"
    elif header.dirty and not header.log_length:
        fault = "is in use and has no bytes"
    elif header.log_offset + header.log_length > 1 << 62:
        fault = f"ends at byte {header.log_offset + header.log_length}, which no file has"
    else:
        return
    raise MalformedImage(f"{file.path.name}: the log {fault}", structure="header", offset=offset)

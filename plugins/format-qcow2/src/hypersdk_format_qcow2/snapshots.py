"""The snapshot table: internal snapshots, each with an L1 table of its own.

Reading only. VM state, which a snapshot may hold beyond the disk's end, is told as a size and never read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, NotFound

from hypersdk_format_qcow2.geometry import MAX_L1_BYTES
from hypersdk_format_qcow2.header import Header

MAX_SNAPSHOTS = 65536
_MAX_EXTRA = 1024
_ENTRY = struct.Struct(">QIHHIIQII")
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot. `created` in seconds since 1970, `disk_size` and `vm_state_size` in bytes."""

    id: str
    name: str
    l1_offset: int
    l1_entries: int
    disk_size: int
    vm_state_size: int
    created: int


def load_snapshots(file: ImageFile, header: Header) -> tuple[tuple[Snapshot, ...], int]:
    """The snapshots and the table's length in bytes. Raises MalformedImage."""
    if not header.snapshot_count:
        return (), 0
    if header.snapshot_count > MAX_SNAPSHOTS:
        raise _bad(file, f"{header.snapshot_count} snapshots are above {MAX_SNAPSHOTS}", 60)
    if header.snapshots_offset % header.cluster_size or not header.snapshots_offset:
        raise _bad(file, f"offset {header.snapshots_offset} is not a cluster's start after the header", 64)
    reader = _Reader(file, header.snapshots_offset)
    found = tuple(_parse(file, header, reader, index) for index in range(header.snapshot_count))
    return found, reader.at - header.snapshots_offset


def find_snapshot(file: ImageFile, snapshots: tuple[Snapshot, ...], wanted: str) -> Snapshot:
    """By id, else by name, as qemu-img does. Raises NotFound listing those that exist."""
    for key in ("id", "name"):
        for snapshot in snapshots:
            if getattr(snapshot, key) == wanted:
                return snapshot
    listed = ", ".join(f"{s.id} ({s.name})" for s in snapshots[:20]) or "none"
    raise NotFound(
        f"{file.path.name} has no snapshot {wanted!r}; it has: {listed}",
        reason="SNAPSHOT_NOT_FOUND", metadata={"snapshot": wanted},
    )  # fmt: skip


def _parse(file: ImageFile, header: Header, reader: _Reader, index: int) -> Snapshot:
    start = reader.at
    (l1_offset, l1_entries, id_length, name_length, seconds, _nanoseconds, _clock, state_size, extra_length) = (
        _ENTRY.unpack(reader.take(_ENTRY.size))
    )
    if extra_length > _MAX_EXTRA:
        raise _bad(file, f"entry {index} has {extra_length} bytes of extra data, above {_MAX_EXTRA}", start)
    extra = reader.take(extra_length)
    identity = reader.take(id_length).decode("utf-8", "replace")
    name = reader.take(name_length).decode("utf-8", "replace")
    reader.take(-(reader.at - start) % 8)
    if extra_length >= 8:
        state_size = int.from_bytes(extra[:8], "big")
    disk_size = int.from_bytes(extra[8:16], "big") if extra_length >= 16 else header.size
    if l1_entries * 8 > MAX_L1_BYTES or l1_offset % header.cluster_size or (l1_entries and not l1_offset):
        raise _bad(file, f"entry {index} has an impossible L1 table", start)
    if disk_size >= 1 << 63:
        raise _bad(file, f"entry {index} has a disk of {disk_size} bytes", start)
    return Snapshot(identity, name, l1_offset, l1_entries, disk_size, state_size, seconds)


class _Reader:
    """Sequential reads through a buffer, because entries are small and of varying length."""

    def __init__(self, file: ImageFile, offset: int) -> None:
        self.at = offset
        self._file = file
        self._start = offset
        self._buffer = b""

    def take(self, length: int) -> bytes:
        low = self.at - self._start
        if low + length > len(self._buffer):
            self._start, low = self.at, 0
            rest = max(length, min(_READ_BYTES, self._file.size - self.at))
            self._buffer = self._file.pread(self.at, rest, structure="snapshot table")
        self.at += length
        return self._buffer[low : low + length]


def _bad(file: ImageFile, what: str, offset: int) -> MalformedImage:
    return MalformedImage(f"{file.path.name}: snapshot table: {what}", structure="snapshot table", offset=offset)

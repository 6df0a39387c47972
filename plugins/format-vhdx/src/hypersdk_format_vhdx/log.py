"""The log (2.3): which of its entries are to be replayed, and what they change.

A file whose header names a log GUID was not closed. Its log, a ring of 4 KiB sectors, holds sequences of entries; the
one with the highest number whose entries are all sound is active, and is applied from its tail to its head (2.3.3). An
entry is sound when its structure and checksum are; the entry that a crash tore is simply not part of the sequence. If
no sequence is sound, nothing tells what the file should hold, and it is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_vhdx.crc32c import checksum_of
from hypersdk_format_vhdx.header import Header
from hypersdk_format_vhdx.layout import LOG_SECTOR, REGION_TABLE_OFFSETS
from hypersdk_format_vhdx.replay import ReplayedFile, Update, latest

MAX_LOG = 64 << 20
"""Bytes of a log that is replayed; Hyper-V and QEMU make logs of 1 MiB."""

MAX_DESCRIPTORS = 1 << 17
_MAX_FILE = 1 << 62
_HEAD = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR = np.dtype([("kind", "<u4"), ("tail", "<u4"), ("lead", "<u8"), ("offset", "<u8"), ("sequence", "<u8")])
_ENTRY_MARK, _ZERO_MARK, _DATA_MARK, _SECTOR_MARK = (
    int.from_bytes(mark, "little") for mark in (b"loge", b"zero", b"desc", b"data")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A sound entry. offset, length and tail in bytes of the log; flushed and last of the file."""

    offset: int
    length: int
    tail: int
    sequence: int
    flushed: int
    last: int
    descriptors: np.ndarray[Any, Any]
    sectors: memoryview


def replay(file: ImageFile, header: Header) -> tuple[ReplayedFile, int]:
    """`file` with its log applied, and how many entries that took: none when the file was closed. Raises
    MalformedImage (LOG_CORRUPT, IMAGE_TRUNCATED), Unsupported (LOG_TOO_LARGE)."""
    if not header.dirty:
        return ReplayedFile(file), 0
    if header.log_length > MAX_LOG:
        raise Unsupported(
            f"{file.path.name} was not closed, and its log of {header.log_length} bytes is larger than the {MAX_LOG} "
            "that are replayed; attach it once in Hyper-V, which empties the log",
            reason="LOG_TOO_LARGE",
        )
    raw = file.pread(header.log_offset, header.log_length, structure="log")
    entries = Log(raw, header.log_guid).active()
    if not entries:
        raise MalformedImage(
            f"{file.path.name} was not closed, and its log has no sequence of sound entries, so what it should hold is "
            "unknown; restore it from a backup",
            structure="log", offset=header.log_offset, reason="LOG_CORRUPT",
        )  # fmt: skip
    if file.size < max(entry.flushed for entry in entries):
        raise MalformedImage(
            f"{file.path.name} has {file.size} bytes, but had {entries[-1].flushed} when its log was written; it is "
            "truncated",
            structure="log", offset=header.log_offset, reason="IMAGE_TRUNCATED",
        )  # fmt: skip
    if sum(len(entry.descriptors) for entry in entries) > MAX_DESCRIPTORS or entries[-1].last > _MAX_FILE:
        raise _fault(file, header, f"claims more than {MAX_DESCRIPTORS} updates, or a file that cannot be")
    updates = latest(_newest_first(file, header, entries))
    return ReplayedFile(file, updates, entries[-1].last), len(entries)


def _newest_first(file: ImageFile, header: Header, entries: list[Entry]) -> Iterator[Update]:
    log_end = header.log_offset + header.log_length
    for entry in reversed(entries):
        sector = int((entry.descriptors["kind"] == _DATA_MARK).sum())
        for kind, tail, lead, offset, _ in entry.descriptors[::-1].tolist():
            length = lead if kind == _ZERO_MARK else LOG_SECTOR
            in_log = offset < log_end and header.log_offset < offset + length
            if offset < REGION_TABLE_OFFSETS[0] or offset + length > _MAX_FILE or in_log:
                raise _fault(file, header, f"would change {length} bytes at offset {offset}, which it may not")
            if kind == _ZERO_MARK:
                yield Update(offset, offset + length)
                continue
            sector -= 1
            body = entry.sectors[sector * LOG_SECTOR + 8 : sector * LOG_SECTOR + LOG_SECTOR - 4]
            yield Update(offset, offset + length, (lead.to_bytes(8, "little"), body, tail.to_bytes(4, "little")))


def _fault(file: ImageFile, header: Header, what: str) -> MalformedImage:
    return MalformedImage(
        f"{file.path.name}: the log {what}", structure="log", offset=header.log_offset, reason="LOG_CORRUPT"
    )


class Log:
    """The bytes of a log and the GUID that its entries must carry."""

    def __init__(self, raw: bytes, guid: UUID) -> None:
        self._raw = memoryview(raw)
        self._guid = guid.bytes_le
        marks = np.frombuffer(raw, dtype="<u4")[:: LOG_SECTOR // 4]
        self._heads = np.flatnonzero(marks == _ENTRY_MARK) * LOG_SECTOR
        self._known: dict[int, Entry | None] = {}

    def active(self) -> list[Entry]:
        """The entries to be replayed, oldest first; empty when there is no sound sequence. Every sector that looks
        like the begin of an entry is tried, as 2.3.3 says."""
        best: list[Entry] = []
        position = 0
        for head in self._heads.tolist():
            if head < position:
                continue
            sequence = self._sequence(head)
            if not sequence:
                continue
            position = head + sum(entry.length for entry in sequence)
            tail = next((at for at, entry in enumerate(sequence) if entry.offset == sequence[-1].tail), None)
            if tail is not None and (not best or sequence[-1].sequence > best[-1].sequence):
                best = sequence[tail:]
        return best

    def _sequence(self, offset: int) -> list[Entry]:
        """Sound entries one behind the other from `offset`, their numbers ascending by one."""
        found: list[Entry] = []
        while True:
            entry = self._entry(offset)
            if entry is None or (found and entry.sequence != found[-1].sequence + 1):
                return found
            found.append(entry)
            offset = (offset + entry.length) % len(self._raw)

    def _entry(self, offset: int) -> Entry | None:
        if offset not in self._known:
            self._known[offset] = self._parse(offset)
        return self._known[offset]

    def _parse(self, offset: int) -> Entry | None:
        head = _HEAD.unpack_from(self._raw, offset)
        length, tail, sequence, count = head[2:6]
        if int.from_bytes(head[0], "little") != _ENTRY_MARK or head[7] != self._guid or not sequence:
            return None
        described = -(-(_HEAD.size + count * _DESCRIPTOR.itemsize) // LOG_SECTOR) * LOG_SECTOR
        if length % LOG_SECTOR or tail % LOG_SECTOR or tail >= len(self._raw) or described > length:
            return None
        # Nothing inside an entry can look like another's head. Asked first, so that no byte is summed up twice.
        if length > self._room(offset):
            return None
        raw = self._bytes(offset, length)
        descriptors = np.frombuffer(raw, dtype=_DESCRIPTOR, count=count, offset=_HEAD.size)
        sectors = raw[described:]
        if not _sound(descriptors, sectors, sequence) or head[1] != checksum_of(raw):
            return None
        return Entry(offset, length, tail, sequence, head[8], head[9], descriptors, sectors)

    def _room(self, offset: int) -> int:
        """Bytes from `offset` to the next head in the ring."""
        after = int(np.searchsorted(self._heads, offset, side="right"))
        following = int(self._heads[after % len(self._heads)])
        return following - offset if following > offset else following - offset + len(self._raw)

    def _bytes(self, offset: int, length: int) -> memoryview:
        end = offset + length
        if end <= len(self._raw):
            return self._raw[offset:end]
        return memoryview(bytes(self._raw[offset:]) + bytes(self._raw[: end - len(self._raw)]))


def _sound(descriptors: np.ndarray[Any, Any], sectors: memoryview, sequence: int) -> bool:
    """Descriptors of known kinds with aligned places, one data sector for each that needs one, all of this entry."""
    zero, data = descriptors["kind"] == _ZERO_MARK, descriptors["kind"] == _DATA_MARK
    aligned = np.uint64(LOG_SECTOR - 1)
    if not (zero | data).all() or (descriptors["sequence"] != sequence).any():
        return False
    if (descriptors["offset"] & aligned).any() or (descriptors["lead"][zero] & aligned).any():
        return False
    if int(data.sum()) * LOG_SECTOR != len(sectors):
        return False
    words = np.frombuffer(sectors, dtype="<u4").reshape(-1, LOG_SECTOR // 4)
    marked = (words[:, 0] == _SECTOR_MARK) & (words[:, 1] == sequence >> 32) & (words[:, -1] == sequence & 0xFFFF_FFFF)
    return bool(marked.all())

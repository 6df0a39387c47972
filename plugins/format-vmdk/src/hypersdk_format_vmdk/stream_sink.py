"""Writes streamOptimized: compressed grains behind markers, tables after their grains, directory and footer last.

VDF 5.0, "Stream-Optimized Compressed Sparse Extents". Nothing is ever written twice or before what is there already, so
the file can be sent on while it grows. Compression happens in `encode`, in as many threads as the pipeline has.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import Buffer
from hypersdk.errors import InvalidArgument

from hypersdk_format_vmdk.grain_sink import (
    GRAIN,
    GRAIN_SECTORS,
    TABLE_BYTES,
    TABLE_SECTORS,
    TABLE_SPAN,
    GrainSink,
    prepare_resume,
    resume_mismatch,
    resume_number,
)
from hypersdk_format_vmdk.grains import EncodedPiece, encode_piece
from hypersdk_format_vmdk.header import (
    COMPRESS_DEFLATE,
    DIRECTORY_AT_END,
    FLAG_COMPRESSED,
    FLAG_MARKERS,
    FLAG_NEWLINES,
    TABLE_ENTRIES,
    SparseHeader,
    parse_header,
)
from hypersdk_format_vmdk.identity import DESCRIPTOR_SECTORS, embedded_descriptor
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.markers import FOOTER, GRAIN_DIRECTORY, GRAIN_TABLE, metadata_marker
from hypersdk_format_vmdk.options import CreateOptions

SUBFORMAT = "streamOptimized"


class StreamSink(GrainSink):
    """`create` or `resume`, then the life of a BlockSink."""

    encodes = True

    def __init__(self, file: ImageFile, size: int) -> None:
        super().__init__(file, size)
        self._header = _header(-(-size // SECTOR))
        self._directory = np.zeros(-(-size // TABLE_SPAN), dtype="<u4")
        self._position = self._header.overhead * SECTOR

    @classmethod
    def create(cls, file: ImageFile, size: int, options: CreateOptions) -> Self:
        sink = cls(file, size)
        head = sink._header.pack() + embedded_descriptor(file.path, sink._header.capacity, options)
        file.pwrite(0, head.ljust(sink._position, b"\0"))
        return sink

    @classmethod
    def resume(cls, file: ImageFile, size: int, state: Mapping[str, Any]) -> Self:
        """Raises Aborted (RESUME_MISMATCH), InvalidArgument."""
        position = prepare_resume(file, state, SUBFORMAT, size)
        sink = cls(file, size)
        if parse_header(file) != sink._header or position < sink._position:
            raise resume_mismatch(file, "its header is of another disk")
        sink._position = position
        sink._next = resume_number(state, "next_grain", -(-size // GRAIN))
        sink._allocated = resume_number(state, "allocated_grains", sink._next)
        sink._table = resume_number(state, "table", len(sink._directory))
        sink._entries = _unpacked(state, "entries", TABLE_ENTRIES)
        sink._directory = _unpacked(state, "directory", len(sink._directory))
        sink._dirty = bool(sink._entries.any())
        return sink

    def encode(self, offset: int, data: Buffer) -> EncodedPiece:
        return encode_piece(offset, data, GRAIN)

    def write(self, offset: int, data: Buffer) -> None:
        self._check(offset, memoryview(data).nbytes)
        self.write_encoded(offset, self.encode(offset, data))

    def write_encoded(self, offset: int, encoded: object) -> None:
        assert isinstance(encoded, EncodedPiece)
        if not encoded.grains:
            return
        self._check(offset, 0)
        self._room(len(encoded.blob) + TABLE_BYTES + SECTOR)
        grains = np.array(encoded.grains)
        starts = np.array(encoded.positions)
        blob = memoryview(encoded.blob)
        cuts = np.flatnonzero(np.diff(grains // TABLE_ENTRIES)) + 1
        edges = [0, *cuts.tolist(), len(grains)]
        for low, high in pairwise(edges):
            self._enter(int(grains[low]) // TABLE_ENTRIES)
            begin = int(starts[low])
            end = int(starts[high]) if high < len(grains) else len(blob)
            self._file.pwrite(self._position, blob[begin:end])
            sectors = np.zeros(int(grains[high - 1] - grains[low]) + 1, dtype=np.uint32)
            sectors[grains[low:high] - grains[low]] = (self._position + starts[low:high] - begin) // SECTOR
            self._place(int(grains[low]), sectors)
            self._position += end - begin

    def _append(self, data: bytes) -> int:
        """The sector at which `data`, whole sectors, was appended."""
        self._room(len(data))
        sector = self._position // SECTOR
        self._file.pwrite(self._position, data)
        self._position += len(data)
        return sector

    def _write_table(self, table: int, entries: np.ndarray) -> None:
        self._directory[table] = 1 + self._append(metadata_marker(GRAIN_TABLE, TABLE_SECTORS) + entries.tobytes())

    def checkpoint(self) -> dict[str, Any]:
        """The current table stays in memory, and in the state: a stream has each table once."""
        self._file.datasync()
        return {
            "subformat": SUBFORMAT,
            "size": self._size,
            "position": self._position,
            "next_grain": self._next,
            "allocated_grains": self._allocated,
            "table": self._table,
            "entries": _packed(self._entries if self._dirty else np.zeros(TABLE_ENTRIES, dtype="<u4")),
            "directory": _packed(self._directory),
        }

    def finish(self) -> dict[str, Any]:
        self._check_open()
        self._flush_table()
        directory = self._directory.tobytes()
        directory = directory.ljust(-(-len(directory) // SECTOR) * SECTOR, b"\0")
        start = self._append(metadata_marker(GRAIN_DIRECTORY, len(directory) // SECTOR) + directory) + 1
        footer = replace(self._header, directory_offset=start)
        self._append(metadata_marker(FOOTER, 1) + footer.pack() + bytes(SECTOR))
        self._file.truncate(self._position)
        self._file.datasync()
        self._closed = True
        return self._facts(SUBFORMAT)


def _header(sectors: int) -> SparseHeader:
    return SparseHeader(
        version=3,
        flags=FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS,
        capacity=sectors,
        grain=GRAIN_SECTORS,
        descriptor_offset=1,
        descriptor_size=DESCRIPTOR_SECTORS,
        table_entries=TABLE_ENTRIES,
        redundant_offset=0,
        directory_offset=DIRECTORY_AT_END,
        overhead=GRAIN_SECTORS,
        compression=COMPRESS_DEFLATE,
    )


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def _unpacked(state: Mapping[str, Any], key: str, length: int) -> np.ndarray:
    try:
        raw = zlib.decompress(base64.b64decode(str(state.get(key)), validate=True))
    except (binascii.Error, zlib.error, ValueError) as exc:
        raise InvalidArgument(f"the checkpoint's {key} is damaged", reason="RESUME_STATE_INVALID") from exc
    if len(raw) != length * 4:
        raise InvalidArgument(f"the checkpoint's {key} is of another disk", reason="RESUME_STATE_INVALID")
    return np.frombuffer(raw, dtype="<u4").copy()

"""Writes monolithicSparse, and the extents of twoGbMaxExtentSparse.

Header, descriptor, both directories with all their tables, then grains in order of arrival.

The tables are laid out in full in front of the grains (VDF 5.0, "Hosted Sparse Extents"), but only those that describe
data are written: the others are holes of the file, so a 16 TiB disk costs 4 MiB of directories. Consecutive guest data
is consecutive in the file, which lets copy_file_range move whole extents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from hypersdk.data.extent import ExtentKind, FileRange
from hypersdk.data.filecopy import copy_range
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import Buffer
from hypersdk.data.sparse import file_extents

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
from hypersdk_format_vmdk.grains import data_grains
from hypersdk_format_vmdk.header import (
    FLAG_NEWLINES,
    FLAG_REDUNDANT,
    FLAG_ZERO_GRAIN,
    TABLE_ENTRIES,
    SparseHeader,
    parse_header,
)
from hypersdk_format_vmdk.identity import DESCRIPTOR_SECTORS, embedded_descriptor
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.options import CreateOptions

SUBFORMAT = "monolithicSparse"


class SparseSink(GrainSink):
    """`create` or `resume`, then the life of a BlockSink."""

    def __init__(self, file: ImageFile, size: int, header: SparseHeader) -> None:
        super().__init__(file, size)
        self._header = header
        tables = -(-size // TABLE_SPAN)
        self._directory_sectors = -(-tables * 4 // SECTOR)
        self._tables = tables
        self._position = header.overhead * SECTOR

    @classmethod
    def create(cls, file: ImageFile, size: int, options: CreateOptions, *, embedded: bool = True) -> Self:
        """With `embedded` False an extent of a disk whose descriptor is another file."""
        sectors = -(-size // SECTOR)
        sink = cls(file, size, _header(size, sectors, zeroed_grain=options.zeroed_grain, embedded=embedded))
        header = sink._header
        file.pwrite(0, header.pack() + (embedded_descriptor(file.path, sectors, options) if embedded else b""))
        for start in (header.redundant_offset, header.directory_offset):
            first = start + sink._directory_sectors
            numbers = np.arange(sink._tables, dtype="<u4") * np.uint32(TABLE_SECTORS) + np.uint32(first)
            file.pwrite(start * SECTOR, numbers.tobytes())
        file.truncate(sink._position)
        return sink

    @classmethod
    def resume(cls, file: ImageFile, size: int, state: Mapping[str, Any]) -> Self:
        """Raises Aborted (RESUME_MISMATCH), InvalidArgument."""
        position = prepare_resume(file, state, SUBFORMAT, size)
        header = parse_header(file)
        sink = cls(file, size, header)
        if header.capacity != -(-size // SECTOR) or position < sink._position or header.compressed:
            raise resume_mismatch(file, "its header is of another disk")
        sink._position = position
        sink._next = resume_number(state, "next_grain", -(-size // GRAIN))
        sink._allocated = resume_number(state, "allocated_grains", sink._next)
        sink._table = min(sink._next // TABLE_ENTRIES, sink._tables - 1)
        raw = file.pread(sink._table_offset(header.directory_offset, sink._table), TABLE_BYTES, structure="grain table")
        sink._entries = np.frombuffer(raw, dtype="<u4").copy()
        sink._entries[sink._entries >= position // SECTOR] = 0
        sink._dirty = True
        sink._clear_tables_after(sink._table)
        return sink

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._check(offset, len(view))
        run: list[int] = []
        for index in data_grains(view, GRAIN):
            if run and index != run[-1] + 1:
                self._append(offset, view, run)
                run = []
            run.append(index)
        if run:
            self._append(offset, view, run)

    def _append(self, offset: int, view: memoryview, run: list[int]) -> None:
        piece = view[run[0] * GRAIN : (run[-1] + 1) * GRAIN]
        self._room(len(run) * GRAIN)
        self._file.pwrite(self._position, piece)
        self._allocate(offset // GRAIN + run[0], len(run))

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        self._check(offset, source.length)
        grains = -(-source.length // GRAIN)
        self._room(grains * GRAIN)
        target = self._file
        copy_range(source.fd, source.file_offset, target.fileno(), target.base + self._position, source.length)
        self._allocate(offset // GRAIN, grains)
        return True

    def _allocate(self, first: int, count: int) -> None:
        """Grains [first, first+count) have been appended at the position."""
        sector = self._position // SECTOR
        self._position += count * GRAIN
        while count:
            n = min(count, TABLE_ENTRIES - first % TABLE_ENTRIES)
            self._place(first, np.arange(n, dtype=np.uint32) * np.uint32(GRAIN_SECTORS) + np.uint32(sector))
            first, count, sector = first + n, count - n, sector + n * GRAIN_SECTORS

    def _table_offset(self, directory: int, table: int) -> int:
        return (directory + self._directory_sectors) * SECTOR + table * TABLE_BYTES

    def _write_table(self, table: int, entries: np.ndarray) -> None:
        raw = entries.tobytes()
        self._file.pwrite(self._table_offset(self._header.directory_offset, table), raw)
        self._file.pwrite(self._table_offset(self._header.redundant_offset, table), raw)

    def _clear_tables_after(self, table: int) -> None:
        """A dead process may have written tables after its last checkpoint; only what it wrote is looked at."""
        for directory in (self._header.redundant_offset, self._header.directory_offset):
            base = self._file.base
            start = base + self._table_offset(directory, table + 1)
            end = base + self._table_offset(directory, self._tables)
            for extent in file_extents(self._file.fileno(), start, end):
                if extent.kind is ExtentKind.DATA:
                    self._blank(extent.offset - base, extent.length)

    def _blank(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length, 1 << 20):
            self._file.pwrite(at, bytes(min(1 << 20, offset + length - at)))

    def checkpoint(self) -> dict[str, Any]:
        self._flush_table()
        self._file.truncate(self._position)
        self._file.datasync()
        return {
            "subformat": SUBFORMAT,
            "size": self._size,
            "position": self._position,
            "next_grain": self._next,
            "allocated_grains": self._allocated,
        }

    def finish(self) -> dict[str, Any]:
        self._check_open()
        self.checkpoint()
        self._closed = True
        return self._facts(SUBFORMAT)


def _header(size: int, sectors: int, *, zeroed_grain: bool, embedded: bool) -> SparseHeader:
    tables = -(-size // TABLE_SPAN)
    directory = -(-tables * 4 // SECTOR)
    redundant = 1 + DESCRIPTOR_SECTORS
    primary = redundant + directory + tables * TABLE_SECTORS
    overhead = primary + directory + tables * TABLE_SECTORS
    return SparseHeader(
        version=2 if zeroed_grain else 1,
        flags=FLAG_NEWLINES | FLAG_REDUNDANT | (FLAG_ZERO_GRAIN if zeroed_grain else 0),
        capacity=sectors,
        grain=GRAIN_SECTORS,
        descriptor_offset=1 if embedded else 0,
        descriptor_size=DESCRIPTOR_SECTORS if embedded else 0,
        table_entries=TABLE_ENTRIES,
        redundant_offset=redundant,
        directory_offset=primary,
        overhead=-(-overhead // GRAIN_SECTORS) * GRAIN_SECTORS,
    )

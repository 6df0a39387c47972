"""check(): do the refcounts tell the truth about the tables?

Every reference is counted anew (`census`) and compared with the stored refcounts and the COPIED flags, as
`qemu-img check` does. Guest data is not read. Repair lowers refcounts that are too high; with `mend`, refcounts and
flags that contradict sound tables are made to agree with them (`rebuild`). Other corruption is only ever reported.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition
from hypersdk.plugin.image_format import CheckReport

from hypersdk_format_qcow2.bitmaps import bitmap_areas
from hypersdk_format_qcow2.census import Census, Faults
from hypersdk_format_qcow2.geometry import (
    FLAG_COMPRESSED,
    FLAG_COPIED,
    OFFSET_MASK,
    REFTABLE_RESERVED,
)
from hypersdk_format_qcow2.header import Header, parse_header
from hypersdk_format_qcow2.l1 import U64, load_table
from hypersdk_format_qcow2.rebuild import rebuild
from hypersdk_format_qcow2.refcounts import block_entries, pack_block, unpack_block
from hypersdk_format_qcow2.snapshots import load_snapshots

_CHUNK = 1 << 20


def check_image(file: ImageFile, *, repair: bool = False, mend: bool = False) -> CheckReport:
    """Raises MalformedImage when header, snapshot table or a table's place is impossible, Unsupported as
    `open` does, FailedPrecondition (FILE_NOT_WRITABLE)."""
    if repair and not file.writable:
        raise FailedPrecondition(
            f"{file.path.name} is open for reading only; repair needs it writable", reason="FILE_NOT_WRITABLE"
        )
    before = _Check(file, parse_header(file)).run(repair=repair, mend=mend)
    if not mend or not before.repaired:
        return before
    after = _Check(file, parse_header(file)).run(repair=False, mend=False)
    return replace(after, repaired=before.repaired, messages=before.messages)


class _Check:
    """One check of one image."""

    def __init__(self, file: ImageFile, header: Header) -> None:
        self._file = file
        self._header = header
        self._geometry = header.geometry(file.size)
        self._faults = Faults()
        self._census = Census(file, self._geometry, self._faults)
        self._stored = np.zeros(len(self._census.references), np.uint64)

    def run(self, *, repair: bool, mend: bool) -> CheckReport:
        header, census, faults = self._header, self._census, self._faults
        if header.corrupt:
            faults.tell("the image is marked corrupt")
        if header.dirty:
            faults.tell("the image is marked dirty: it was not closed, refcounts may be behind")
        l1 = self._count_references()
        blocks = self._load_refcounts()
        census.walk()
        low, leaks = self._compare()
        structural = faults.count
        faults.add(f"{low} clusters are used more often than their refcount says", low)
        allocated, compressed = self._check_copied(l1)
        repaired = 0
        wrong = faults.count + leaks
        if mend and not structural and (wrong or header.dirty or header.corrupt):
            if rebuild(self._file, header, l1, blocks, self._stored, census.references):
                repaired = max(wrong, 1)
                leaks = 0
                faults.tell("refcounts and flags were made to agree with the tables")
        elif repair and leaks and not faults.count:
            self._repair(blocks)
            faults.tell(f"{leaks} clusters were leaked, now free again")
            repaired, leaks = leaks, 0
        if leaks:
            faults.tell(f"{leaks} clusters are leaked")
        return CheckReport(
            corruptions=faults.count,
            leaks=leaks,
            repaired=repaired,
            allocated_units=allocated,
            total_units=self._geometry.clusters,
            messages=tuple(faults.messages),
            details={
                "compressed_clusters": compressed,
                "image_end_offset": self._image_end(),
                "dirty": header.dirty,
                "corrupt": header.corrupt,
            },
        )

    def _count_references(self) -> U64:
        """Everything but the content of L2 tables and the refcount blocks; the active L1 table's entries."""
        header, census = self._header, self._census
        snapshots, snapshots_bytes = load_snapshots(self._file, header)
        census.area(0, header.cluster_size, "header")
        census.area(header.reftable_offset, header.reftable_clusters * header.cluster_size, "refcount table")
        census.area(header.snapshots_offset, snapshots_bytes, "snapshot table")
        for snapshot in snapshots:
            census.l1_table(snapshot.l1_offset, snapshot.l1_entries, f"L1 table of snapshot {snapshot.id}")
        for offset, length, structure in bitmap_areas(self._file, header):
            census.area(offset, length, structure)
        return census.l1_table(header.l1_offset, header.l1_entries, "L1 table")

    def _load_refcounts(self) -> U64:
        """Fill `_stored`; offsets of the refcount blocks, 0 where there is none."""
        header, cluster = self._header, self._header.cluster_size
        entries = block_entries(cluster, header.refcount_order)
        raw = load_table(self._file, header.reftable_offset, header.reftable_clusters * cluster // 8, "refcount table")
        blocks = raw & ~np.uint64(REFTABLE_RESERVED)
        for index in np.flatnonzero(raw).tolist():
            offset = int(blocks[index])
            whole = offset % cluster == 0 and offset + cluster <= self._geometry.file_size
            if not whole or int(raw[index]) & REFTABLE_RESERVED:
                self._faults.add(f"refcount table entry {index} (0x{int(raw[index]):016x}) is impossible")
                blocks[index] = 0
                continue
            self._census.area(offset, cluster, f"refcount block {index}")
            first = index * entries
            if first < len(self._stored):
                counts = unpack_block(self._file.pread(offset, cluster), header.refcount_order)
                self._stored[first : first + entries] = counts[: len(self._stored) - first]
        return blocks

    def _compare(self) -> tuple[int, int]:
        """Clusters whose refcount is too low, and too high."""
        low = high = 0
        for at in range(0, len(self._stored), _CHUNK):
            stored, used = self._stored[at : at + _CHUNK], self._census.references[at : at + _CHUNK]
            low += int((stored < used).sum())
            high += int((stored > used).sum())
        return low, high

    def _check_copied(self, l1: U64) -> tuple[int, int]:
        """COPIED says that the refcount is 1 (section "Standard Cluster Descriptor"). Returns how many guest
        clusters have data, and how many of them compressed."""
        allocated = compressed_total = 0
        tables = l1 & np.uint64(OFFSET_MASK)
        self._compare_copied(l1[tables != 0], "L1 table")
        for index, entries in self._census.active_tables(l1):
            compressed = (entries & np.uint64(FLAG_COMPRESSED)) != 0
            self._faults.add(
                f"L2 table {index}: compressed clusters with the COPIED flag",
                int((compressed & ((entries & np.uint64(FLAG_COPIED)) != 0)).sum()),
            )
            plain = ~compressed & ((entries & np.uint64(OFFSET_MASK)) != 0)
            self._compare_copied(entries[plain], f"L2 table {index}")
            allocated += int(plain.sum()) + int(compressed.sum())
            compressed_total += int(compressed.sum())
        return allocated, compressed_total

    def _compare_copied(self, entries: U64, structure: str) -> None:
        clusters = ((entries & np.uint64(OFFSET_MASK)) >> np.uint64(self._geometry.cluster_bits)).astype(np.int64)
        inside = clusters < len(self._stored)
        copied = (entries[inside] & np.uint64(FLAG_COPIED)) != 0
        wrong = int((copied != (self._stored[clusters[inside]] == 1)).sum())
        self._faults.add(f"{structure}: {wrong} entries whose COPIED flag contradicts the refcount", wrong)

    def _image_end(self) -> int:
        used = np.flatnonzero(self._stored)
        return (int(used[-1]) + 1) * self._geometry.cluster_size if len(used) else 0

    def _repair(self, blocks: U64) -> None:
        """Lower the refcounts that are too high, block by block, and sync."""
        order, entries = (
            self._header.refcount_order,
            block_entries(self._header.cluster_size, self._header.refcount_order),
        )
        high = np.flatnonzero(self._stored > self._census.references)
        for index in np.unique(high // entries).tolist():
            offset = int(blocks[index])
            counts = unpack_block(self._file.pread(offset, self._header.cluster_size), order).copy()
            used = self._census.references[index * entries : (index + 1) * entries]
            head = counts[: len(used)]
            np.minimum(head, used.astype(head.dtype), out=head)
            self._file.pwrite(offset, pack_block(counts, order))
        self._file.datasync()

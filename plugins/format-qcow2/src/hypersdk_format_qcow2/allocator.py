"""Host space of an image that is being written: append-only allocation, and the refcounts that follow from
it.

Clusters are handed out in ascending order and never freed, so every plain cluster's refcount is 1 and only
clusters of compressed data need counting. Refcount blocks are written as soon as the clusters they count are
settled: memory stays the same however long the file becomes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import ResourceExhausted

from hypersdk_format_qcow2.checkpoint import Checkpoint
from hypersdk_format_qcow2.geometry import MAX_REFTABLE_BYTES, OFFSET_MASK, ceil_div
from hypersdk_format_qcow2.refcounts import block_entries, max_refcount, pack_block

_BATCH_BYTES = 1 << 20
"""Refcount blocks are written in batches of this size, so that they seldom interrupt the data."""
_COUNT_LIMIT = 65535


class Allocator:
    """Life: `clusters` and `blob` while data comes, `settle` between pieces, `finish` once. With `state`, it
    goes on where another one was; `recount` then tells it of the compressed clusters there are."""

    def __init__(
        self, file: ImageFile, cluster_size: int, refcount_order: int, resume: Checkpoint | None = None
    ) -> None:
        self._file = file
        self._cluster = cluster_size
        self._order = refcount_order
        self._entries = block_entries(cluster_size, refcount_order)
        self._batch = max(1, _BATCH_BYTES // cluster_size)
        self._most = min(max_refcount(refcount_order), _COUNT_LIMIT)
        self.batches = list(resume.batches) if resume else []
        """Where the batches of refcount blocks that are written lie, bytes."""
        self._base = len(self.batches) * self._batch * self._entries
        self._counts = np.zeros(self._batch * self._entries, np.uint16)
        self.end = self._base
        """First cluster that is not allocated."""
        self.fill = resume.fill if resume else 0
        """Byte at which the open cluster of compressed data goes on; a multiple of the cluster: none is
        open."""
        if resume:
            self.clusters(resume.end - self._base)

    def clusters(self, count: int) -> int:
        """`count` consecutive new clusters; their offset in bytes. Raises ResourceExhausted
        (IMAGE_TOO_LARGE)."""
        first = self.end
        self._extend(first + count)
        self._counts[first - self._base : first + count - self._base] = 1
        return first * self._cluster

    def blob(self, length: int) -> int:
        """A place of `length` bytes (less than a cluster) for one compressed cluster; its offset in bytes.
        Goes on in the open cluster when that has room or is the last one, so blobs are packed without
        gaps."""
        cluster = self._cluster
        open_index, used = divmod(self.fill, cluster)
        at = self.fill
        full = used == 0 or int(self._counts[open_index - self._base]) >= self._most
        if full or (used + length > cluster and open_index + 1 != self.end):
            at = self.end * cluster
        last = (at + length - 1) // cluster
        if last >= self.end:
            self._extend(last + 1)
        self._counts[at // cluster - self._base : last + 1 - self._base] += np.uint16(1)
        self.fill = at + length
        return at

    def recount(self, firsts: npt.NDArray[np.int64], lasts: npt.NDArray[np.int64]) -> None:
        """After a resume: all compressed clusters, of which number i lies in the host clusters firsts[i] to
        lasts[i]."""
        touched = np.concatenate([firsts, lasts[lasts != firsts]])
        touched = touched[touched >= self._base] - self._base
        self._counts[touched] = 0
        np.add.at(self._counts, touched, np.uint16(1))

    def settle(self) -> None:
        """Write the batches of refcount blocks that are complete."""
        span = self._batch * self._entries
        while self.end - self._base >= span:
            if self.fill < (self._base + span) * self._cluster:
                self.fill = 0  # what is counted in a written block must not change: the open cluster stays as it is
            offset = self.clusters(self._batch)
            self._file.pwrite(offset, pack_block(self._counts[:span], self._order))
            self.batches.append(offset)
            rest = self._counts[span:]
            self._counts = np.zeros(max(span, len(rest)), np.uint16)
            self._counts[: len(rest)] = rest
            self._base += span

    def finish(self) -> tuple[int, int]:
        """Write what is left and the refcount table; the table's offset in bytes and length in clusters."""
        self.settle()
        written = len(self.batches) * self._batch
        blocks = table = 0
        while True:  # blocks and table are counted by themselves; grows by 1 or 2 until it fits
            total = ceil_div(self.end + blocks + table, self._entries)
            wanted = total - written, ceil_div(total * 8, self._cluster)
            if wanted == (blocks, table):
                break
            blocks, table = wanted
        if table * self._cluster > max(MAX_REFTABLE_BYTES, self._cluster):
            raise _too_large("its refcount table would exceed 8 MiB; use a larger cluster_size")
        offset = self.clusters(blocks + table)
        counts = np.zeros(blocks * self._entries, np.uint16)
        used = self._counts[: self.end - self._base]
        counts[: len(used)] = used
        self._file.pwrite(offset, pack_block(counts, self._order))
        starts = [start + i * self._cluster for start in self.batches for i in range(self._batch)]
        starts += [offset + i * self._cluster for i in range(blocks)]
        table_offset = offset + blocks * self._cluster
        self._file.pwrite(table_offset, np.array(starts, ">u8").tobytes().ljust(table * self._cluster, b"\0"))
        return table_offset, table

    def _extend(self, end: int) -> None:
        """Room in the counts up to cluster `end`."""
        if end * self._cluster > OFFSET_MASK:
            raise _too_large("it would exceed 2^56 bytes")
        missing = end - self._base - len(self._counts)
        if missing > 0:
            self._counts = np.concatenate([self._counts, np.zeros(max(missing, len(self._counts)), np.uint16)])
        self.end = max(self.end, end)


def _too_large(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"the image file cannot grow: {what}", reason="IMAGE_TOO_LARGE", retryable=False)

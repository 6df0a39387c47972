"""Qcow2Sink: writes an image from its start to its end.

Layout: header, L1 table, then data in guest order with batches of L2 tables and refcount blocks in between,
refcount table last. The header is written when everything else is on stable storage, so a file that was not
finished is not an image. Nothing here is rewritten except the L2 table and L1 entries that a checkpoint left
half full.

With a backing file, clusters that are never written are read from it: `zero` then writes zero clusters, which
version 2 has not, so there it allocates clusters and leaves holes in the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypersdk.data.extent import FileRange
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.sink import BlockSink, Buffer
from hypersdk.errors import DataLoss, FailedPrecondition, InvalidArgument, OutOfRange

from hypersdk_format_qcow2.allocator import Allocator
from hypersdk_format_qcow2.checkpoint import Checkpoint
from hypersdk_format_qcow2.codecs import CODECS
from hypersdk_format_qcow2.geometry import FLAG_COMPRESSED, FLAG_COPIED, FLAG_ZERO, MAX_L1_BYTES, Geometry, ceil_div
from hypersdk_format_qcow2.headerwriter import pack_header
from hypersdk_format_qcow2.l1 import U64, load_table
from hypersdk_format_qcow2.options import CreateOptions
from hypersdk_format_qcow2.tablewriter import TableWriter

_ALL_SUBCLUSTERS = 0xFFFF_FFFF
_ALL_ZERO_SUBCLUSTERS = _ALL_SUBCLUSTERS << 32
_ZERO_BATCH = 1 << 16
"""Clusters that `zero` maps at a time, so that its memory does not grow with the length."""
_NO_RANGE_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM})


class Qcow2Sink(BlockSink):
    """See the module's docstring; BlockSink tells the life. Offsets ascend."""

    def __init__(
        self, file: ImageFile, size: int, options: CreateOptions, resume: Mapping[str, Any] | None = None
    ) -> None:
        """Raises InvalidArgument for a size that the cluster size cannot map, a backing file's name that does not
        fit, or a foreign `resume`; PermissionDenied (REFERENCE_REFUSED) and NotFound for a backing file that is no
        plain name of a file beside the image."""
        self._geometry = Geometry(options.version, options.cluster_bits, size, 0, options.extended_l2)
        if size < 0 or self._geometry.l1_entries * 8 > MAX_L1_BYTES:
            raise InvalidArgument(
                f"a disk of {size} bytes needs an L1 table above {MAX_L1_BYTES >> 20} MiB with clusters of "
                f"{self._geometry.cluster_size} bytes; use a larger cluster_size",
                reason="IMAGE_TOO_LARGE",
            )
        pack_header(self._geometry, options)
        if options.backing_file:
            file.open_sibling(options.backing_file, structure="backing_file").close()
        self._file = file
        self._options = options
        self._codec = CODECS[options.compression_type]()
        self._next = 0
        self._data_clusters = self._compressed_clusters = 0
        self._done = False
        self.encodes = options.compress
        cluster = self._geometry.cluster_size
        saved = None if resume is None else Checkpoint.parse(resume, size, options, file.size)
        self._allocator = Allocator(file, cluster, options.refcount_order, saved)
        if saved is None:
            self._allocator.clusters(1 + ceil_div(self._geometry.l1_entries * 8, cluster))
        self._tables = TableWriter(file, self._geometry, self._allocator, cluster)
        if saved is not None:
            self._restore(saved)

    @property
    def size(self) -> int:
        return self._geometry.size

    @property
    def granularity(self) -> int:
        return self._geometry.cluster_size

    def write(self, offset: int, data: Buffer) -> None:
        if self._options.compress:
            self.write_encoded(offset, self.encode(offset, data))
            return
        view = memoryview(data).cast("B")
        if len(view):
            host = self._allocate(offset, len(view))
            self._file.pwrite(host, view)
            self._map_plain(offset, len(view), host)

    def zero(self, offset: int, length: int) -> None:
        if not self._options.backing_file or not length:
            return
        self._check(offset, length)
        cluster = self._geometry.cluster_size
        step = _ZERO_BATCH * cluster
        for at in range(offset, offset + length, step):
            part = min(step, offset + length - at)
            if self._geometry.version == 2:
                self._map_plain(at, part, self._allocate(at, part))
            else:
                entry = 0 if self._geometry.extended_l2 else FLAG_ZERO  # there the bitmaps say it
                self._put(at, np.full(ceil_div(part, cluster), entry, np.uint64))

    def write_file_range(self, offset: int, source: FileRange) -> bool:
        if self._options.compress:
            return False
        self._check(offset, source.length)
        host = self._allocator.end * self._geometry.cluster_size
        copied = 0
        while copied < source.length:
            try:
                count = os.copy_file_range(
                    source.fd, self._file.fileno(), source.length - copied, source.file_offset + copied,
                    self._file.base + host + copied,
                )  # fmt: skip
            except OSError as exc:
                if not copied and exc.errno in _NO_RANGE_COPY:
                    return False
                raise
            if not count:
                raise DataLoss(
                    f"the source file ends {source.length - copied} bytes before the data it should hold",
                    reason="SOURCE_TRUNCATED",
                )
            copied += count
        self._map_plain(offset, source.length, self._allocate(offset, source.length))
        return True

    def encode(self, offset: int, data: Buffer) -> object:  # noqa: ARG002 - the contract's signature
        """A list with one item per cluster: the blob, shorter than a cluster, or None beside the plain bytes
        for one that does not get smaller."""
        view = memoryview(data).cast("B")
        cluster = self._geometry.cluster_size
        out: list[tuple[bytes | None, bytes]] = []
        for at in range(0, len(view), cluster):
            plain = view[at : at + cluster]
            whole: Buffer = plain if len(plain) == cluster else bytes(plain).ljust(cluster, b"\0")
            blob = self._codec.compress(whole)
            out.append((blob, b"") if len(blob) < cluster else (None, bytes(plain)))
        return out

    def write_encoded(self, offset: int, encoded: object) -> None:
        assert isinstance(encoded, list)
        cluster = self._geometry.cluster_size
        self._check(offset, min(len(encoded) * cluster, self.size - offset))
        words: list[int] = []
        held: list[bytes] = []
        start = end = 0
        for blob, plain in encoded:
            if blob is not None:
                host = self._allocator.blob(len(blob))
                sectors = ((host + len(blob) - 1) >> 9) - (host >> 9)
                words.append(FLAG_COMPRESSED | sectors << self._geometry.sector_shift | host)
            else:
                host = self._allocator.clusters(1)
                words.append(FLAG_COPIED | host)
            chunk = plain if blob is None else blob
            if host != end:
                self._file.pwrite(start, b"".join(held))
                held, start = [], host
            held.append(chunk)
            end = host + len(chunk)
        self._file.pwrite(start, b"".join(held))
        self._put(offset, np.array(words, np.uint64))

    def checkpoint(self) -> dict[str, Any]:
        """A `Checkpoint` as JSON."""
        self._refuse_done()
        self._tables.sync()
        self._allocator.settle()
        self._file.truncate(self._allocator.end * self._geometry.cluster_size)
        self._file.datasync()
        return Checkpoint(
            size=self.size,
            options=self._options,
            next=self._next,
            end=self._allocator.end,
            fill=self._allocator.fill,
            batches=tuple(self._allocator.batches),
            data=self._data_clusters,
            compressed=self._compressed_clusters,
        ).to_json()

    def finish(self) -> dict[str, Any]:
        self._refuse_done()
        geometry, options = self._geometry, self._options
        self._tables.finish()
        table_offset, table_clusters = self._allocator.finish()
        self._file.truncate(self._allocator.end * geometry.cluster_size)
        self._file.datasync()
        self._file.pwrite(0, pack_header(geometry, options, table_offset, table_clusters))
        self._file.datasync()
        self._done = True
        return {
            "allocated_bytes": self._file.allocated_bytes,
            "file_bytes": self._file.size,
            "data_clusters": self._data_clusters,
            "compressed_clusters": self._compressed_clusters,
        }

    def abort(self) -> None:
        self._done = True

    def _allocate(self, offset: int, length: int) -> int:
        self._check(offset, length)
        return self._allocator.clusters(ceil_div(length, self._geometry.cluster_size))

    def _map_plain(self, offset: int, length: int, host: int) -> None:
        cluster = self._geometry.cluster_size
        count = ceil_div(length, cluster)
        hosts = np.uint64(host) + np.arange(count, dtype=np.uint64) * np.uint64(cluster)
        self._put(offset, hosts | np.uint64(FLAG_COPIED))

    def _put(self, offset: int, entries: U64) -> None:
        words = entries
        compressed = (entries & np.uint64(FLAG_COMPRESSED)) != 0
        if self._geometry.extended_l2:
            words = np.empty(2 * len(entries), np.uint64)
            words[::2] = entries
            words[1::2] = np.where(compressed, np.uint64(0), np.uint64(_ALL_SUBCLUSTERS))
            words[1::2][entries == 0] = np.uint64(_ALL_ZERO_SUBCLUSTERS)
        first = offset // self._geometry.cluster_size
        self._tables.put(first, words)
        self._allocator.settle()
        self._next = first + len(entries)
        self._data_clusters += int((entries > np.uint64(FLAG_ZERO)).sum())
        self._compressed_clusters += int(compressed.sum())

    def _check(self, offset: int, length: int) -> None:
        self._refuse_done()
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRange(f"{length} bytes at offset {offset} are not inside the disk of {self.size} bytes")
        cluster = self._geometry.cluster_size
        whole = length % cluster == 0 or offset + length == self.size
        if offset % cluster or not whole or offset // cluster < self._next:
            raise InvalidArgument(
                f"{length} bytes at offset {offset}: qcow2 is written in whole clusters of {cluster} bytes, in "
                f"ascending order (next is {self._next * cluster})",
                reason="WRITE_OUT_OF_ORDER",
            )

    def _refuse_done(self) -> None:
        if self._done:
            raise FailedPrecondition("the image is finished or aborted already", reason="SINK_CLOSED")

    def _restore(self, saved: Checkpoint) -> None:
        self._file.truncate(saved.end * self._geometry.cluster_size)
        self._next = saved.next
        self._data_clusters, self._compressed_clusters = saved.data, saved.compressed
        slots = self._tables.restore(saved.next)
        if self._options.compress:
            self._recount(slots)

    def _recount(self, slots: list[int]) -> None:
        """Refcounts of compressed clusters from the tables that are in the file."""
        geometry = self._geometry
        bits, cluster_bits = np.uint64(geometry.sector_shift), np.uint64(geometry.cluster_bits)
        firsts, lasts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, slot in enumerate(slots):
            words = load_table(self._file, slot, geometry.l2_entries * geometry.entry_words, f"L2 table {number}")
            if number == len(slots) - 1:
                words[((self._next - 1) % geometry.l2_entries + 1) * geometry.entry_words :] = 0
            entries = words[:: geometry.entry_words]
            entries = entries[(entries & np.uint64(FLAG_COMPRESSED)) != 0] & np.uint64(FLAG_COMPRESSED - 1)
            offsets = entries & np.uint64((1 << geometry.sector_shift) - 1)
            ends = (offsets & ~np.uint64(511)) + ((entries >> bits) + np.uint64(1)) * np.uint64(512) - np.uint64(1)
            firsts.append((offsets >> cluster_bits).astype(np.int64))
            lasts.append((ends >> cluster_bits).astype(np.int64))
        self._allocator.recount(np.concatenate(firsts), np.concatenate(lasts))

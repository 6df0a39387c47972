"""The L1 and L2 tables of an image that is being written in ascending guest order.

One L2 table is open at a time. Those that are left behind wait until a megabyte of them is flushed in one
place, so that guest data stays contiguous in the file even with small clusters.
"""

from __future__ import annotations

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_qcow2.allocator import Allocator
from hypersdk_format_qcow2.geometry import FLAG_COPIED, OFFSET_MASK, Geometry
from hypersdk_format_qcow2.l1 import U64, load_table

_BATCH_BYTES = 1 << 20


class TableWriter:
    """Life: `put` entries in ascending order; `sync` at checkpoints; `finish` once."""

    def __init__(self, file: ImageFile, geometry: Geometry, allocator: Allocator, l1_offset: int) -> None:
        self._file = file
        self._geometry = geometry
        self._allocator = allocator
        self._l1_offset = l1_offset
        self._l1 = np.zeros(geometry.l1_entries, ">u8")
        self._l1_saved = 0
        self._words = geometry.l2_entries * geometry.entry_words
        self._index = -1
        self._open = np.zeros(0, ">u8")
        self._slot = 0
        self._waiting: list[tuple[int, bytes]] = []

    def put(self, cluster: int, words: U64) -> None:
        """The L2 entries (with their bitmaps where extended) of consecutive clusters from `cluster`."""
        step = self._geometry.entry_words
        done = 0
        while done < len(words):
            table, entry = divmod(cluster + done // step, self._geometry.l2_entries)
            if table != self._index:
                self._leave()
                self._index, self._slot, self._open = table, 0, np.zeros(self._words, ">u8")
            at = entry * step
            take = min(len(words) - done, self._words - at)
            self._open[at : at + take] = words[done : done + take]
            done += take
        if len(self._waiting) * self._geometry.cluster_size >= _BATCH_BYTES:
            self._flush()

    def sync(self) -> None:
        """Everything put so far is in the file's tables."""
        self._flush()
        if self._index >= 0:
            if not self._slot:
                self._slot = self._allocator.clusters(1)
                self._l1[self._index] = self._slot | FLAG_COPIED
            self._file.pwrite(self._slot, self._open.tobytes())
        self._save_l1()

    def finish(self) -> None:
        self._leave()
        self._index = -1
        self._flush()
        self._save_l1()

    def restore(self, next_cluster: int) -> list[int]:
        """Take over the tables that `sync` wrote when `next_cluster` was the next to be put, without what was
        written after it. Returns the offsets of the L2 tables."""
        geometry = self._geometry
        last = (next_cluster - 1) // geometry.l2_entries if next_cluster else -1
        raw = load_table(self._file, self._l1_offset, last + 1, "L1 table")
        self._l1[: last + 1] = raw
        self._l1_saved = last + 1
        slots = [int(slot) for slot in raw & np.uint64(OFFSET_MASK) if slot]
        if last >= 0 and raw[last]:
            self._index, self._slot = last, int(raw[last] & np.uint64(OFFSET_MASK))
            self._open = load_table(self._file, self._slot, self._words, "L2 table").astype(">u8")
            self._open[(next_cluster - last * geometry.l2_entries) * geometry.entry_words :] = 0
        end = self._allocator.end * geometry.cluster_size
        if any(slot % geometry.cluster_size or slot + geometry.cluster_size > end for slot in slots):
            raise MalformedImage(
                f"{self._file.path.name}: the L1 table does not fit the checkpoint; start anew",
                structure="L1 table", offset=self._l1_offset, reason="RESUME_STATE_INVALID",
            )  # fmt: skip
        return slots

    def _leave(self) -> None:
        """The open table is complete."""
        if self._index < 0:
            return
        if self._slot:
            self._file.pwrite(self._slot, self._open.tobytes())
        else:
            self._waiting.append((self._index, self._open.tobytes()))

    def _flush(self) -> None:
        if not self._waiting:
            return
        offset = self._allocator.clusters(len(self._waiting))
        self._file.pwrite(offset, b"".join(table for _, table in self._waiting))
        for place, (index, _) in enumerate(self._waiting):
            self._l1[index] = (offset + place * self._geometry.cluster_size) | FLAG_COPIED
        self._waiting.clear()

    def _save_l1(self) -> None:
        """Only the part that changed: from the table that was open last time to the last one used."""
        used = np.flatnonzero(self._l1[self._l1_saved :])
        if not len(used):
            return
        end = self._l1_saved + int(used[-1]) + 1
        self._file.pwrite(self._l1_offset + 8 * self._l1_saved, self._l1[self._l1_saved : end].tobytes())
        self._l1_saved = end

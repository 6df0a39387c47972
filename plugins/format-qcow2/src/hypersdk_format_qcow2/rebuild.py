"""Mending what can be mended without a guess: refcounts, the COPIED flags that follow from them, the dirty mark.

That is what a crash leaves behind in an image with lazy refcounts. Clusters that two owners claim are left as they are:
nobody can tell whose bytes they hold.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile

from hypersdk_format_qcow2.geometry import FLAG_COMPRESSED, FLAG_COPIED, OFFSET_MASK
from hypersdk_format_qcow2.header import INCOMPAT_CORRUPT, INCOMPAT_DIRTY, Header
from hypersdk_format_qcow2.l1 import U64, load_table
from hypersdk_format_qcow2.refcounts import block_entries, max_refcount, pack_block, unpack_block

_FEATURES_OFFSET = 72


def rebuild(
    file: ImageFile, header: Header, l1: U64, blocks: U64, stored: U64, references: npt.NDArray[np.uint32]
) -> bool:
    """Write `references` in place of the `stored` refcounts, and what follows from them. False, and nothing is
    written, when a cluster has two owners, or a refcount has no block or no room to be written."""
    entries = block_entries(header.cluster_size, header.refcount_order)
    wrong = stored != references
    contested = (stored > 0) & (stored < references)
    touched = np.unique(np.flatnonzero(wrong) // entries)
    most = max_refcount(header.refcount_order)
    if contested.any() or (len(touched) and touched[-1] >= len(blocks)) or not blocks[touched].all():
        return False
    if (references > min(most, (1 << 32) - 1)).any():
        return False
    for index in touched.tolist():
        offset = int(blocks[index])
        counts = unpack_block(file.pread(offset, header.cluster_size), header.refcount_order).copy()
        used = references[index * entries : (index + 1) * entries]
        counts[: len(used)] = used.astype(counts.dtype)
        file.pwrite(offset, pack_block(counts, header.refcount_order))
    file.datasync()  # flags that promise a refcount of 1 come after the refcounts
    _flag(file, header.l1_offset, l1, header, references, 1)
    geometry = header.geometry(file.size)
    for offset in (l1[(l1 & np.uint64(OFFSET_MASK)) != 0] & np.uint64(OFFSET_MASK)).tolist():
        words = load_table(file, offset, geometry.l2_entries * geometry.entry_words, "L2 table")
        _flag(file, offset, words, header, references, geometry.entry_words)
    file.datasync()
    if header.version >= 3:
        mended = header.incompatible & ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT)
        file.pwrite(_FEATURES_OFFSET, struct.pack(">Q", mended))
        file.datasync()
    return True


def _flag(
    file: ImageFile, offset: int, words: U64, header: Header, references: npt.NDArray[np.uint32], step: int
) -> None:
    """COPIED in the entries of one table, written when that changes anything."""
    entries = words[::step]
    plain = ((entries & np.uint64(FLAG_COMPRESSED)) == 0) & ((entries & np.uint64(OFFSET_MASK)) != 0)
    clusters = ((entries & np.uint64(OFFSET_MASK)) >> np.uint64(header.cluster_bits)).astype(np.int64)
    alone = np.zeros(len(entries), np.bool_)
    alone[plain] = references[clusters[plain]] == 1
    flagged = np.where(alone, entries | np.uint64(FLAG_COPIED), entries & ~np.uint64(FLAG_COPIED))
    if (flagged != entries).any():
        out = words.copy()
        out[::step] = flagged
        file.pwrite(offset, out.astype(">u8").tobytes())

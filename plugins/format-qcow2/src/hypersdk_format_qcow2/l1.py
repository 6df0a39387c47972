"""The L1 table in memory: loaded and judged as a whole, once.

What it returns points only at cluster-aligned places inside the file, each named once. A table that two
entries share is impossible in a sound image (one active table maps a guest address once), and refusing it
bounds every walk by the size of the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage

from hypersdk_format_qcow2.geometry import L1_RESERVED, OFFSET_MASK, Geometry

U64 = npt.NDArray[np.uint64]


def load_table(file: ImageFile, offset: int, entries: int, structure: str) -> U64:
    """`entries` big-endian 64-bit words at `offset`, in the machine's order."""
    raw = file.pread(offset, entries * 8, structure=structure)
    return np.frombuffer(raw, dtype=">u8").astype(np.uint64)


def load_l1(file: ImageFile, geometry: Geometry, offset: int, entries: int) -> U64:
    """Host offsets of the L2 tables, bytes, 0 where there is none; exactly `geometry.l1_entries` of them.
    Raises MalformedImage naming the entry."""
    used = min(entries, geometry.l1_entries)
    raw = load_table(file, offset, used, "L1 table")
    tables = raw & np.uint64(OFFSET_MASK)

    def refuse(wrong: npt.NDArray[np.bool_], what: str, **kw: Any) -> None:
        if wrong.any():
            index = int(np.argmax(wrong))
            raise MalformedImage(
                f"{file.path.name}: L1 table entry {index} (0x{int(raw[index]):016x}) {what}",
                structure=f"L1 table entry {index}", offset=offset + 8 * index, **kw,
            )  # fmt: skip

    cluster = geometry.cluster_size
    refuse((raw & np.uint64(L1_RESERVED)) != 0, "has reserved bits set")
    refuse((tables & np.uint64(cluster - 1)) != 0, "is not aligned to a cluster")
    refuse(
        (tables != 0) & (tables + np.uint64(cluster) > np.uint64(geometry.file_size)),
        f"names an L2 table beyond the end of the file ({geometry.file_size} bytes); the file is truncated or "
        "the entry corrupt",
        reason="IMAGE_TRUNCATED",
    )
    present = np.sort(tables[tables != 0])
    twice = present[1:][present[1:] == present[:-1]]
    if twice.size:
        refuse(tables == twice[0], "names an L2 table that another entry names too")
    return tables

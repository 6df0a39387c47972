"""`info()` of an image: everything its header, extensions and snapshot table tell, JSON-able."""

from __future__ import annotations

import struct
from typing import Any

from hypersdk.data.source import BlockSource

from hypersdk_format_qcow2.extensions import EXT_BITMAPS
from hypersdk_format_qcow2.geometry import Geometry
from hypersdk_format_qcow2.header import COMPAT_LAZY_REFCOUNTS, Header
from hypersdk_format_qcow2.snapshots import Snapshot


def describe(
    header: Header, geometry: Geometry, snapshots: tuple[Snapshot, ...], chosen: Snapshot | None,
    backing: BlockSource | None,
) -> dict[str, Any]:  # fmt: skip
    """Keys as BlockSource.info says; `details` with qemu-img's names."""
    details: dict[str, Any] = {
        "compat": "0.10" if header.version == 2 else "1.1",
        "compression_type": header.compression,
        "lazy_refcounts": bool(header.compatible & COMPAT_LAZY_REFCOUNTS),
        "refcount_bits": header.refcount_bits,
        "corrupt": header.corrupt,
        "extended_l2": header.extended_l2,
        "header_length": header.length,
        "l1_entries": header.l1_entries,
        "bitmaps": _bitmap_count(header),
        "header_extensions": [f"0x{ext.kind:08x}" for ext in header.extensions],
        "snapshots": [
            {"id": s.id, "name": s.name, "disk_size": s.disk_size, "vm_state_size": s.vm_state_size, "date": s.created}
            for s in snapshots
        ],
    }
    if chosen is not None:
        details["snapshot"] = chosen.id
    info: dict[str, Any] = {
        "format": "qcow2",
        "virtual_size": geometry.size,
        "cluster_size": geometry.cluster_size,
        "dirty": header.dirty,
        "details": details,
    }
    if header.backing_file is not None:
        info["backing_file"] = header.backing_file
        info["backing_format"] = header.backing_format
    if backing is not None:
        info["backing"] = backing.info()
    return info


def _bitmap_count(header: Header) -> int:
    for ext in header.extensions:
        if ext.kind == EXT_BITMAPS and len(ext.data) >= 4:
            return int(struct.unpack_from(">I", ext.data)[0])
    return 0

"""How large a file a source would fill, by its extents alone: no guest data is read."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.source import BlockSource

from hypersdk_format_vhdx.builder import SECTOR, Plan
from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.options import CreateOptions


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes of the file, whole blocks counted. Zeros in DATA extents are not foreseen."""
    size = -(-max(source.size, 1) // SECTOR) * SECTOR
    geometry = Geometry(size, options.block_for(source.size), SECTOR)
    plan = Plan(geometry, options)
    if options.fixed:
        return plan.payload_offset + geometry.blocks * geometry.block
    blocks, after = 0, 0
    for extent in source.extents():
        if extent.kind is not ExtentKind.DATA:
            continue
        first, end = max(after, extent.offset // geometry.block), -(-extent.end // geometry.block)
        if first < end:
            blocks += end - first
            after = end
    return plan.payload_offset + blocks * geometry.block

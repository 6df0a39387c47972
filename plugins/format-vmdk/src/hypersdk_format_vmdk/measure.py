"""How large a file a source would fill at most, by its extents alone: no guest data is read."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.source import BlockSource

from hypersdk_format_vmdk.grain_sink import GRAIN, TABLE_BYTES, TABLE_SPAN
from hypersdk_format_vmdk.grains import stored_most
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.options import CreateOptions


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes. Compression is not foreseen: an incompressible grain is assumed."""
    grains = 0
    last = -1
    for extent in source.extents():
        if extent.kind is not ExtentKind.DATA:
            continue
        first = max(last + 1, extent.offset // GRAIN)
        end = -(-extent.end // GRAIN)
        grains += max(0, end - first)
        last = max(last, end - 1)
    tables = -(-source.size // TABLE_SPAN)
    directory = -(-tables * 4 // SECTOR) * SECTOR
    if options.subformat == "streamOptimized":
        used = min(tables, grains)
        return GRAIN + grains * stored_most(GRAIN) + used * (TABLE_BYTES + SECTOR) + directory + 4 * SECTOR
    head = SECTOR * 21 + 2 * (directory + tables * TABLE_BYTES)
    return -(-head // GRAIN) * GRAIN + grains * GRAIN

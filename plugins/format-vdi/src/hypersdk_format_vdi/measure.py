"""How large a file a source would fill at most, by its extents alone: no guest data is read."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.source import BlockSource

from hypersdk_format_vdi.dynamic_sink import new_header
from hypersdk_format_vdi.layout import TYPE_DYNAMIC
from hypersdk_format_vdi.options import CreateOptions


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes: the length of the file, of which holes take no space. Blocks that turn out to be zeros are not
    foreseen."""
    header = new_header(max(1, source.size), options.block, TYPE_DYNAMIC)
    if options.static:
        return header.data_offset + header.blocks * header.block
    blocks, last = 0, -1
    for extent in source.extents():
        if extent.kind is ExtentKind.DATA:
            first = max(last + 1, extent.offset // header.block)
            last = max(last, (extent.end - 1) // header.block)
            blocks += last + 1 - first
    return header.data_offset + blocks * header.block

"""How large a file a source would fill at most, by its extents alone: no guest data is read."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.source import BlockSource

from hypersdk_format_vpc.dynamic_sink import lead_bytes, new_header, start_of_blocks
from hypersdk_format_vpc.geometry import rounded
from hypersdk_format_vpc.layout import FOOTER_BYTES
from hypersdk_format_vpc.options import CreateOptions


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes: the length of the file, of which holes take no space. Blocks that turn out to be zeros are not
    foreseen."""
    capacity, _ = rounded(source.size, exact=options.force_size)
    if options.fixed:
        return capacity + FOOTER_BYTES
    header = new_header(capacity, options.block)
    blocks, last = 0, -1
    for extent in source.extents():
        if extent.kind is ExtentKind.DATA:
            first = max(last + 1, extent.offset // header.block)
            last = max(last, (extent.end - 1) // header.block)
            blocks += last + 1 - first
    return start_of_blocks(header) + blocks * (lead_bytes(header) + header.block) + FOOTER_BYTES

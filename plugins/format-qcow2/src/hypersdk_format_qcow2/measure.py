"""How large a file would be, ahead of writing it."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.source import BlockSource

from hypersdk_format_qcow2.geometry import Geometry, ceil_div
from hypersdk_format_qcow2.options import CreateOptions
from hypersdk_format_qcow2.refcounts import block_entries


def measure_bytes(source: BlockSource, options: CreateOptions) -> int:
    """Bytes of the file if every DATA extent is stored plain, whole batches of refcount blocks not
    rounded."""
    geometry = Geometry(options.version, options.cluster_bits, source.size, 0, options.extended_l2)
    cluster, per_table = geometry.cluster_size, geometry.l2_entries
    clusters = tables = 0
    next_cluster = next_table = 0
    for extent in source.extents():
        if extent.kind != ExtentKind.DATA:
            continue
        first, end = max(next_cluster, extent.offset // cluster), ceil_div(extent.end, cluster)
        if first < end:
            clusters += end - first
            first_table, end_table = max(next_table, first // per_table), ceil_div(end, per_table)
            tables += max(0, end_table - first_table)
            next_cluster, next_table = end, max(next_table, end_table)
    if options.backing_file:  # clusters that are zeros here alone need a table too
        tables = geometry.l1_entries
    used = 1 + ceil_div(geometry.l1_entries * 8, cluster) + clusters + tables
    blocks = table = 0
    while True:  # refcount blocks and table count themselves too
        total = ceil_div(used + blocks + table, block_entries(cluster, options.refcount_order))
        if (blocks, table) == (total, ceil_div(total * 8, cluster)):
            return (used + blocks + table) * cluster
        blocks, table = total, ceil_div(total * 8, cluster)

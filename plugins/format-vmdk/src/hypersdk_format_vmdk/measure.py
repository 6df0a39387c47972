"""How much a source would fill at most, all files together, by its extents alone: no guest data is read."""

from __future__ import annotations

from hypersdk.data.extent import ExtentKind
from hypersdk.data.flatsink import FLAT_UNIT
from hypersdk.data.source import BlockSource

from hypersdk_format_vmdk.grain_sink import GRAIN, TABLE_BYTES, TABLE_SPAN
from hypersdk_format_vmdk.grains import stored_most
from hypersdk_format_vmdk.identity import DESCRIPTOR_SECTORS
from hypersdk_format_vmdk.layout import SECTOR
from hypersdk_format_vmdk.options import CreateOptions
from hypersdk_format_vmdk.split_sink import LAYOUTS, MAX_SPLIT

_DESCRIPTOR = 4096 + 300 * MAX_SPLIT
"""Most bytes of a descriptor in a file of its own."""


def upper_bound(source: BlockSource, options: CreateOptions) -> int:
    """Bytes of disk. Compression is not foreseen: an incompressible grain is assumed."""
    if options.subformat in LAYOUTS:
        layout = LAYOUTS[options.subformat]
        if layout.kind == "FLAT":
            return _DESCRIPTOR + sum(
                (-(-e.end // FLAT_UNIT) - e.offset // FLAT_UNIT) * FLAT_UNIT
                for e in source.extents()
                if e.kind is ExtentKind.DATA
            )
        full, rest = divmod(source.size, layout.span)
        heads = full * _head(layout.span) + (_head(rest) if rest else 0)
        return _DESCRIPTOR + heads + _grains(source) * GRAIN
    grains = _grains(source)
    if options.subformat == "streamOptimized":
        tables = -(-source.size // TABLE_SPAN)
        used = min(tables, grains)
        directory = _directory(tables)
        return GRAIN + grains * stored_most(GRAIN) + used * (TABLE_BYTES + SECTOR) + directory + 4 * SECTOR
    return _head(source.size) + grains * GRAIN


def _grains(source: BlockSource) -> int:
    """Grains that hold data."""
    grains = 0
    last = -1
    for extent in source.extents():
        if extent.kind is not ExtentKind.DATA:
            continue
        first = max(last + 1, extent.offset // GRAIN)
        end = -(-extent.end // GRAIN)
        grains += max(0, end - first)
        last = max(last, end - 1)
    return grains


def _head(size: int) -> int:
    """Bytes before the first grain of a sparse extent of `size` bytes."""
    tables = -(-size // TABLE_SPAN)
    head = SECTOR * (1 + DESCRIPTOR_SECTORS) + 2 * (_directory(tables) + tables * TABLE_BYTES)
    return -(-head // GRAIN) * GRAIN


def _directory(tables: int) -> int:
    return -(-tables * 4 // SECTOR) * SECTOR

"""`info()` of an image: everything its headers and metadata tell, JSON-able."""

from __future__ import annotations

from typing import Any

from hypersdk_format_vhdx.header import Headers
from hypersdk_format_vhdx.locator import ParentLocator
from hypersdk_format_vhdx.metadata import Metadata
from hypersdk_format_vhdx.regions import Regions


def describe(
    headers: Headers, regions: Regions, metadata: Metadata, locator: ParentLocator | None, log_entries: int,
    parent: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """Keys as BlockSource.info says. `dirty`: the file was not closed; what its log held is seen nevertheless."""
    header, geometry = headers.current, metadata.geometry
    kind = "differencing" if geometry.has_parent else "fixed" if metadata.fixed else "dynamic"
    info: dict[str, Any] = {
        "format": "vhdx",
        "virtual_size": geometry.size,
        "cluster_size": geometry.block,
        "subformat": kind,
        "dirty": header.dirty,
        "details": {
            "creator": headers.creator,
            "version": header.version,
            "header_sequence": header.sequence,
            "headers_valid": list(headers.valid),
            "region_tables_valid": list(regions.valid),
            "file_write_guid": str(header.file_write_guid),
            "data_write_guid": str(header.data_write_guid),
            "disk_id": str(metadata.disk_id),
            "log_guid": str(header.log_guid),
            "log_offset": header.log_offset,
            "log_size": header.log_length,
            "log_entries_replayed": log_entries,
            "logical_sector_size": geometry.sector,
            "physical_sector_size": metadata.physical_sector,
            "leave_blocks_allocated": metadata.fixed,
            "regions": [
                {"guid": str(r.guid), "name": r.name, "offset": r.offset, "length": r.length} for r in regions.all
            ],
            "unknown_metadata": [str(guid) for guid in metadata.unknown],
        },
    }
    if locator is not None:
        info["backing_file"] = locator.display_name
        info["backing_format"] = "vhdx"
        info["details"]["parent_locator"] = dict(locator.entries)
    if parent is not None:
        info["backing"] = parent
    return info

"""From a file to a source: header, log, regions, metadata, and the chain of parents.

The gate for everything that is policy. A parent is opened only with `chain=on`, only by the plain name that the parent
locator's relative path is (ImageFile.open_sibling), only as VHDX, and only if it is still the one that the disk was
made over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.backing import Seen, open_parent
from hypersdk.data.formatoptions import Chain
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage

from hypersdk_format_vhdx.blockmap import BlockMap
from hypersdk_format_vhdx.describe import describe
from hypersdk_format_vhdx.header import Headers, read_headers
from hypersdk_format_vhdx.locator import ParentLocator, parse_locator
from hypersdk_format_vhdx.log import replay
from hypersdk_format_vhdx.metadata import Metadata, read_metadata
from hypersdk_format_vhdx.options import parse_chain
from hypersdk_format_vhdx.regions import Regions, read_regions
from hypersdk_format_vhdx.replay import ReplayedFile
from hypersdk_format_vhdx.source import VhdxSource


@dataclass(frozen=True, slots=True)
class Layer:
    """One image, parsed and judged, without its parent. `log_entries`: how many were replayed."""

    file: ReplayedFile
    headers: Headers
    regions: Regions
    metadata: Metadata
    locator: ParentLocator | None
    blocks: BlockMap
    log_entries: int


def open_source(file: ImageFile, options: Mapping[str, str] | None) -> VhdxSource:
    """The source of `file`, which it takes over; on failure `file` is closed. Raises as VhdxFormat.open says."""
    try:
        chain = parse_chain(options)
        return _open(file, load(file), chain, ())
    except BaseException:
        file.close()
        raise


def load(file: ImageFile) -> Layer:
    """Everything of one image but its parent. Raises MalformedImage, Unsupported."""
    headers = read_headers(file)
    header = headers.current
    view, entries = replay(file, header)
    regions = read_regions(view, (header.log_offset, header.log_length))
    metadata = read_metadata(view, regions.metadata)
    locator = None
    if metadata.geometry.has_parent and metadata.parent_locator is not None:
        locator = parse_locator(view.name, *metadata.parent_locator)
    needed = metadata.geometry.entries * 8
    if regions.bat.length < needed:
        raise MalformedImage(
            f"{view.name}: the BAT region has {regions.bat.length} bytes, but a disk of {metadata.geometry.size} bytes "
            f"needs {needed}",
            structure="BAT region", offset=regions.bat.offset,
        )  # fmt: skip
    areas = [(region.offset, region.end) for region in regions.all]
    areas.append((header.log_offset, header.log_offset + header.log_length))
    blocks = BlockMap(view, metadata.geometry, regions.bat.offset, areas)
    return Layer(view, headers, regions, metadata, locator, blocks, entries)


def _open(file: ImageFile, layer: Layer, chain: Chain, above: Seen) -> VhdxSource:
    parent, refusal = None, None
    if layer.locator is not None:
        refusal = _refusal(layer, layer.locator)
        if chain is Chain.REFUSED:
            raise refusal
        if chain is Chain.READ:
            parent, refusal = _open_parent(file, layer, layer.locator, above), None
    facts = describe(
        layer.headers, layer.regions, layer.metadata, layer.locator, layer.log_entries,
        parent.info() if parent is not None else None,
    )  # fmt: skip
    return VhdxSource(layer.file, layer.metadata.geometry, layer.blocks, facts, parent, refusal)


def _refusal(layer: Layer, locator: ParentLocator) -> FailedPrecondition:
    return FailedPrecondition(
        f"{layer.file.name} holds only the changes to its parent {locator.display_name!r}; give chain=on to read both",
        reason="IMAGE_HAS_PARENT", metadata={"parent": locator.display_name, "parent_format": "vhdx"},
    )  # fmt: skip


def _open_parent(
    file: ImageFile, layer: Layer, locator: ParentLocator, above: Seen
) -> VhdxSource:
    name = locator.sibling(layer.file.name)
    sibling, seen = open_parent(file, name, above, structure="parent locator", reason="IMAGE_CHAIN_IMPOSSIBLE")
    below = load(sibling)
    if below.headers.current.data_write_guid not in locator.linkages:
        raise FailedPrecondition(
            f"{name} has changed since {layer.file.name} was made over it, or is another disk (its data-write GUID is "
            f"{below.headers.current.data_write_guid}); find the parent with {locator.linkages[0]}",
            reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip
    if below.metadata.geometry.sector != layer.metadata.geometry.sector:
        raise MalformedImage(
            f"{layer.file.name} has sectors of {layer.metadata.geometry.sector} bytes, its parent {name!r} of "
            f"{below.metadata.geometry.sector}",
            structure="logical sector size", reason="IMAGE_CHAIN_IMPOSSIBLE",
        )  # fmt: skip
    return _open(sibling, below, Chain.READ, seen)

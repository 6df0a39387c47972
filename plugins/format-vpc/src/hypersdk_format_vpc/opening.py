"""From a file to a source: which structures, which size, which parent. The one place that opens other files.

Parents are opened through ImageFile.open_sibling only, and proved by UUID and timestamp. A disk that depends on a
parent is never read without it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any
from uuid import UUID

from hypersdk.data.backing import Seen, open_parent
from hypersdk.data.formatoptions import Chain
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, MalformedImage

from hypersdk_format_vpc.bat import judged
from hypersdk_format_vpc.footer import KINDS
from hypersdk_format_vpc.geometry import virtual_size
from hypersdk_format_vpc.header import DynamicHeader
from hypersdk_format_vpc.layout import EPOCH, TYPE_DIFFERENCING
from hypersdk_format_vpc.locators import locator_texts, parent_name
from hypersdk_format_vpc.options import OpenOptions
from hypersdk_format_vpc.source import BlockedSource, FixedSource
from hypersdk_format_vpc.structures import Structures, read_structures

Source = FixedSource | BlockedSource
_MTIME_SLACK_S = 2
"""FAT keeps times in steps of two seconds."""


def open_source(file: ImageFile, options: OpenOptions) -> Source:
    """The source takes over `file`. Raises MalformedImage, Unsupported, FailedPrecondition (IMAGE_HAS_PARENT,
    PARENT_MISMATCH), PermissionDenied (REFERENCE_REFUSED), NotFound (REFERENCED_FILE_MISSING)."""
    return _open(file, options, ())[0]


def _open(file: ImageFile, options: OpenOptions, seen: Seen) -> tuple[Source, Structures]:
    try:
        found = read_structures(file)
        return _source(file, found, options, seen), found
    except BaseException:
        file.close()
        raise


def _source(file: ImageFile, found: Structures, options: OpenOptions, seen: Seen) -> Source:
    footer, header = found.footer, found.header
    size, rule = virtual_size(footer.current_size, footer.geometry, footer.creator, options.size_rule)
    facts = _facts(found, rule)
    if header is None:
        if size > found.end:
            raise MalformedImage(
                f"{file.path.name}: a fixed disk of {size} bytes ends at offset {found.end}; the file is truncated",
                structure="data", offset=found.end, reason="IMAGE_TRUNCATED",
            )  # fmt: skip
        return FixedSource(file, size, facts)
    facts["cluster_size"] = header.block
    table = judged(file, header, size=size, end=found.end, header_offset=footer.data_offset)
    if footer.kind != TYPE_DIFFERENCING:
        return BlockedSource(file, size, header, table, facts)
    name = parent_name(file, header)
    facts["backing_file"] = name
    facts["details"]["parent_uuid"] = str(header.parent_uuid)
    facts["details"]["parent_locators"] = {
        code.decode("latin-1"): text for code, text in locator_texts(file, header).items()
    }
    if options.chain is Chain.READ:
        return BlockedSource(file, size, header, table, facts, parent=_parent(file, header, name, options, seen))
    refusal = FailedPrecondition(
        f"{file.path.name} is a differencing disk over {name or 'a parent that it does not name'!r} and cannot be read "
        "alone; read it with chain=on, its parents beside it",
        reason="IMAGE_HAS_PARENT", metadata={"parent": name},
    )  # fmt: skip
    if options.chain is Chain.REFUSED:
        raise refusal
    return BlockedSource(file, size, header, table, facts, refusal=refusal)


def _parent(
    file: ImageFile, header: DynamicHeader, name: str, options: OpenOptions, seen: Seen
) -> Source:
    if not name:
        raise MalformedImage(
            f"{file.path.name}: a differencing disk that does not name its parent", structure="parent locator"
        )
    sibling, seen = open_parent(file, name, seen, structure="parent locator", reason="IMAGE_CHAIN_IMPOSSIBLE")
    modified = int(os.fstat(sibling.fileno()).st_mtime) - EPOCH
    source, found = _open(sibling, replace(options, size_rule=""), seen)
    try:
        _prove(file.path.name, header, name, found, modified, ignore_timestamp=options.ignore_timestamp)
    except BaseException:
        source.close()
        raise
    return source


def _prove(
    child: str, header: DynamicHeader, name: str, parent: Structures, modified: int, *, ignore_timestamp: bool
) -> None:
    """The parent's UUID must be the recorded one. The recorded time is by VHD 1.0 that of the parent file's last
    change; VirtualBox writes the one in the parent's footer. A copy that kept neither needs `ignore_timestamp`."""
    uuid: UUID = parent.footer.uuid
    if uuid != header.parent_uuid:
        raise FailedPrecondition(
            f"{name} is not the parent of {child}: its UUID is {uuid}, the recorded one {header.parent_uuid}; put the "
            "right file beside it", reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip
    wanted = header.parent_timestamp
    same = wanted in (0, parent.footer.timestamp) or abs(wanted - modified) <= _MTIME_SLACK_S
    if not same and not ignore_timestamp:
        raise FailedPrecondition(
            f"{name} may have been changed since {child} was made from it: its timestamps are "
            f"{parent.footer.timestamp} and {modified}, the recorded one {wanted}; if it was only copied, read it with "
            "ignore_timestamp=on", reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip


def _facts(found: Structures, rule: str) -> dict[str, Any]:
    footer = found.footer
    return {
        "subformat": KINDS[footer.kind],
        "compressed": False,
        "dirty": footer.saved_state,
        "details": {
            "creator_application": footer.creator.decode("latin-1").rstrip("\0 "),
            "creator_version": f"{footer.creator_version >> 16}.{footer.creator_version & 0xFFFF}",
            "creator_host_os": footer.creator_system.decode("latin-1").rstrip("\0 "),
            "uuid": str(footer.uuid),
            "timestamp": footer.timestamp + EPOCH,
            "current_size": footer.current_size,
            "original_size": footer.original_size,
            "geometry": list(footer.geometry),
            "size_rule": rule,
            "faults": list(found.faults),
        },
    }

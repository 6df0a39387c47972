"""From a file to a source: header, block map, and which parent. The one place that opens other files.

A differencing VDI knows its parent by UUID alone: VirtualBox keeps the names in its registry. So the user names the
parents (`backing_file`), or they bear the name that VirtualBox gives snapshots, `{UUID}.vdi`. They are opened through
ImageFile.open_sibling only, and proved by UUID. A disk that depends on a parent is never read without it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypersdk.data.backing import Seen, open_parent
from hypersdk.data.formatoptions import Chain
from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import FailedPrecondition, NotFound

from hypersdk_format_vdi.blocks import judge
from hypersdk_format_vdi.header import KINDS, NO_UUID, Header, read_header
from hypersdk_format_vdi.options import OpenOptions
from hypersdk_format_vdi.source import VdiSource


def open_source(file: ImageFile, options: OpenOptions) -> VdiSource:
    """The source takes over `file`. Raises MalformedImage, Unsupported, FailedPrecondition (IMAGE_HAS_PARENT,
    PARENT_MISMATCH), PermissionDenied (REFERENCE_REFUSED), NotFound (REFERENCED_FILE_MISSING)."""
    return _open(file, options, ())[0]


def _open(file: ImageFile, options: OpenOptions, seen: Seen) -> tuple[VdiSource, Header]:
    try:
        header = read_header(file)
        judge(file, header)
        return _source(file, header, options, seen), header
    except BaseException:
        file.close()
        raise


def _source(file: ImageFile, header: Header, options: OpenOptions, seen: Seen) -> VdiSource:
    name = options.parents[0] if options.parents else f"{{{header.parent}}}.vdi"
    facts = _facts(header)
    if not header.has_parent:
        return VdiSource(file, header, facts)
    facts["backing_file"] = name
    if options.chain is Chain.READ:
        return VdiSource(file, header, facts, parent=_parent(file, header, name, options, seen))
    refusal = FailedPrecondition(
        f"{file.path.name} is a differencing disk over the disk with UUID {header.parent} and cannot be read alone; "
        "put its parents beside it and read it with chain=on,backing_file=NAME",
        reason="IMAGE_HAS_PARENT", metadata={"parent": str(header.parent)},
    )  # fmt: skip
    if options.chain is Chain.REFUSED:
        raise refusal
    return VdiSource(file, header, facts, refusal=refusal)


def _parent(file: ImageFile, header: Header, name: str, options: OpenOptions, seen: Seen) -> VdiSource:
    try:
        sibling, seen = open_parent(file, name, seen, structure="parent", reason="IMAGE_CHAIN_IMPOSSIBLE")
    except NotFound as exc:
        if options.parents:
            raise
        raise FailedPrecondition(
            f"{file.path.name} says of its parent only its UUID, {header.parent}, and there is no {name} beside it; "
            "name the parent's file with backing_file=NAME",
            reason="IMAGE_HAS_PARENT", metadata={"parent": str(header.parent)},
        ) from exc  # fmt: skip
    source, found = _open(sibling, replace(options, parents=options.parents[1:]), seen)
    try:
        _prove(file.path.name, header, name, found)
    except BaseException:
        source.close()
        raise
    return source


def _prove(child: str, header: Header, name: str, parent: Header) -> None:
    """The parent must be the recorded disk, unchanged since."""
    if parent.uuid != header.parent:
        raise FailedPrecondition(
            f"{name} is not the parent of {child}: its UUID is {parent.uuid}, the recorded one {header.parent}; name "
            "the right file", reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip
    if header.parent_modification not in (NO_UUID, parent.modification):
        raise FailedPrecondition(
            f"{name} has been changed since {child} was made from it (modification UUID {parent.modification}, "
            f"recorded {header.parent_modification}); reading them together would give wrong bytes",
            reason="PARENT_MISMATCH", metadata={"parent": name},
        )  # fmt: skip


def _facts(header: Header) -> dict[str, Any]:
    return {
        "subformat": KINDS[header.kind],
        "compressed": False,
        "dirty": False,
        "details": {
            "version": f"{header.version >> 16}.{header.version & 0xFFFF}",
            "uuid": str(header.uuid),
            "modification_uuid": str(header.modification),
            "parent_uuid": str(header.parent),
            "parent_modification_uuid": str(header.parent_modification),
            "blocks": header.blocks,
            "blocks_allocated": header.allocated,
            "description": header.description,
        },
    }

"""Opening an image: which file, which snapshot, which backing chain, and what is told of it.

The gate for everything that is policy. A backing file is opened only with `chain=on`, only as a plain name
beside the image (ImageFile.open_sibling), and only in the format that the image or the user names: guest data
is never probed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as MappingABC
from dataclasses import replace
from typing import Any

from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, InvalidArgument, MalformedImage

from hypersdk_format_qcow2.codecs import CODECS
from hypersdk_format_qcow2.describe import describe
from hypersdk_format_qcow2.header import Header, parse_header
from hypersdk_format_qcow2.l1 import load_l1
from hypersdk_format_qcow2.mapping import Mapping, metadata_clusters
from hypersdk_format_qcow2.snapshots import Snapshot, find_snapshot, load_snapshots
from hypersdk_format_qcow2.source import Qcow2Source

OPEN_OPTIONS = {
    "chain": "on: read unallocated clusters from the backing file; off: open an image that has one for its "
    "information alone (default: such an image is refused)",
    "backing_fmt": "format of the backing file when the image does not record it",
    "snapshot": "id or name of an internal snapshot to read instead of the present state",
    "allow_corrupt": "on|off: read data of an image that is marked corrupt (default off)",
}
MAX_CHAIN = 64
_Identity = tuple[int, int]


def open_source(file: ImageFile, options: dict[str, str]) -> BlockSource:
    """The source of `file`, which it takes over; on failure `file` is closed. Raises as ImageFormat.open
    says."""
    try:
        return _open_layer(file, options, ())
    except BaseException:
        file.close()
        raise


def _open_layer(file: ImageFile, options: MappingABC[str, str], above: tuple[_Identity, ...]) -> Qcow2Source:
    _check_options(options)
    header = parse_header(file)
    if header.backing_file is not None and "chain" not in options:
        raise _parent_refusal(file, header)
    snapshots, snapshots_bytes = load_snapshots(file, header)
    chosen = find_snapshot(file, snapshots, options["snapshot"]) if options.get("snapshot") else None
    geometry = header.geometry(file.size)
    l1_offset, l1_entries = header.l1_offset, header.l1_entries
    if chosen is not None:
        geometry = replace(geometry, size=chosen.disk_size)
        l1_offset, l1_entries = chosen.l1_offset, chosen.l1_entries
        if l1_entries < geometry.l1_entries:
            raise MalformedImage(
                f"{file.path.name}: L1 table of snapshot {chosen.id} has {l1_entries} entries, too few for "
                f"{chosen.disk_size} bytes",
                structure="snapshot L1 table", offset=l1_offset,
            )  # fmt: skip
    areas = _metadata_areas(header, snapshots, snapshots_bytes)
    metadata = metadata_clusters(file.path.name, geometry, areas)
    backing = _open_backing(file, header, options, above)
    try:
        tables = load_l1(file, geometry, l1_offset, l1_entries)
        mapping = Mapping(file, geometry, tables, metadata)
        info = describe(header, geometry, snapshots, chosen, backing)
        refusal = _corrupt_refusal(file, options) if header.corrupt else None
        if header.backing_file is not None and backing is None:
            refusal = _parent_refusal(file, header)
        return Qcow2Source(file, geometry, mapping, CODECS[header.compression](), info, backing, refusal)
    except BaseException:
        if backing is not None:
            backing.close()
        raise


def _check_options(options: MappingABC[str, str]) -> None:
    for name, value in options.items():
        if name not in OPEN_OPTIONS:
            raise InvalidArgument(
                f"qcow2 has no option {name!r} for reading; known: {', '.join(OPEN_OPTIONS)}",
                reason="OPTION_UNKNOWN",
            )
        if name in {"chain", "allow_corrupt"} and value not in {"on", "off"}:
            raise InvalidArgument(f"option {name} must be on or off, not {value!r}", reason="OPTION_INVALID")


def _metadata_areas(
    header: Header, snapshots: tuple[Snapshot, ...], snapshots_bytes: int
) -> list[tuple[int, int, str]]:
    cluster = header.cluster_size
    areas = [
        (0, cluster, "header"),
        (header.l1_offset, header.l1_entries * 8, "L1 table"),
        (header.reftable_offset, header.reftable_clusters * cluster, "refcount table"),
        (header.snapshots_offset, snapshots_bytes, "snapshot table"),
    ]
    areas += [(s.l1_offset, s.l1_entries * 8, f"L1 table of snapshot {s.id}") for s in snapshots]
    return areas


def _corrupt_refusal(file: ImageFile, options: MappingABC[str, str]) -> FailedPrecondition | None:
    if options.get("allow_corrupt") == "on":
        return None
    return FailedPrecondition(
        f"{file.path.name} is marked corrupt: its last user found damaged tables, so data may be wrong. Check it, or "
        "read it anyway with allow_corrupt=on",
        reason="IMAGE_MARKED_CORRUPT",
    )


def _parent_refusal(file: ImageFile, header: Header) -> FailedPrecondition:
    return FailedPrecondition(
        f"{file.path.name} holds only the changes to its backing file {header.backing_file!r}; give chain=on to read "
        "both",
        reason="IMAGE_HAS_PARENT",
        metadata={"parent": str(header.backing_file), "parent_format": header.backing_format or ""},
    )


def _open_backing(
    file: ImageFile, header: Header, options: MappingABC[str, str], above: tuple[_Identity, ...]
) -> BlockSource | None:
    name = header.backing_file
    if name is None:
        return None
    if options.get("chain") != "on":
        return None
    format_name = header.backing_format or options.get("backing_fmt")
    if not format_name:
        raise FailedPrecondition(
            f"{file.path.name} does not record the format of its backing file {name!r}, and guessing it from what a "
            "guest may have written is not safe; give backing_fmt=FORMAT",
            reason="BACKING_FORMAT_UNKNOWN", metadata={"parent": name},
        )  # fmt: skip
    status = os.fstat(file.fileno())
    seen = (*above, (status.st_dev, status.st_ino))
    sibling = file.open_sibling(name, structure="backing file")
    below = os.fstat(sibling.fileno())
    if (below.st_dev, below.st_ino) in seen or len(seen) > MAX_CHAIN:
        raise MalformedImage(
            f"{file.path.name}: the backing chain at {name!r} is a loop or longer than {MAX_CHAIN} files",
            structure="backing file name", reason="BACKING_CHAIN_LOOP",
        )  # fmt: skip
    if format_name == "qcow2":
        inherited = {key: value for key, value in options.items() if key != "snapshot"}
        return _open_layer(sibling, inherited, seen)
    return _open_foreign(sibling, format_name)


def _open_foreign(file: ImageFile, format_name: str) -> BlockSource:
    """A backing file of another format, by that format's plugin, without a chain of its own."""
    from hypersdk.data.images import FormatRegistry

    source: Any = FormatRegistry.installed().get(format_name).open(file)
    assert isinstance(source, BlockSource)
    return source

"""Opening an image: which file, which snapshot, which backing chain, and what is told of it.

The gate for everything that is policy. A backing file is opened only with `chain=on`, only as a plain name
beside the image (ImageFile.open_sibling), and only in the format that the image or the user names: guest data
is never probed.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import replace

from hypersdk.data.backing import Seen, backing_format, backing_refusal, open_foreign, open_parent
from hypersdk.data.formatoptions import FormatOptions
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.source import BlockSource
from hypersdk.errors import FailedPrecondition, MalformedImage

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
_ON_OFF = ("on", "off")


def open_source(file: ImageFile, options: dict[str, str]) -> BlockSource:
    """The source of `file`, which it takes over; on failure `file` is closed. Raises as ImageFormat.open
    says."""
    try:
        given = FormatOptions("qcow2", options, OPEN_OPTIONS, doing="reading")
        for switch in ("chain", "allow_corrupt"):
            given.one_of(switch, _ON_OFF, "off")
        return _open_layer(file, options, ())
    except BaseException:
        file.close()
        raise


def _open_layer(file: ImageFile, options: MappingABC[str, str], above: Seen) -> Qcow2Source:
    header = parse_header(file)
    if header.backing_file is not None and "chain" not in options:
        raise backing_refusal(file, header.backing_file, header.backing_format or "")
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
            refusal = backing_refusal(file, header.backing_file, header.backing_format or "")
        return Qcow2Source(file, geometry, mapping, CODECS[header.compression](), info, backing, refusal)
    except BaseException:
        if backing is not None:
            backing.close()
        raise


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


def _open_backing(
    file: ImageFile, header: Header, options: MappingABC[str, str], above: Seen
) -> BlockSource | None:
    name = header.backing_file
    if name is None:
        return None
    if options.get("chain") != "on":
        return None
    format_name = backing_format(file, name, header.backing_format or "", options.get("backing_fmt", ""))
    sibling, seen = open_parent(file, name, above, structure="backing file", reason="BACKING_CHAIN_LOOP")
    if format_name == "qcow2":
        inherited = {key: value for key, value in options.items() if key != "snapshot"}
        return _open_layer(sibling, inherited, seen)
    return open_foreign(sibling, format_name)

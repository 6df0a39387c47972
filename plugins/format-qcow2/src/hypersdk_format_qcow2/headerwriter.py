"""The header of an image that is being written.

It is built twice: before anything is written, to refuse a backing file's name that does not fit, and at the end, with
the place of the refcount table.
"""

from __future__ import annotations

from hypersdk.errors import FieldViolation, InvalidArgument

from hypersdk_format_qcow2.extensions import EXT_BACKING_FORMAT, Extension, feature_table
from hypersdk_format_qcow2.geometry import Geometry, round_up
from hypersdk_format_qcow2.header import (
    COMPAT_LAZY_REFCOUNTS,
    INCOMPAT_COMPRESSION,
    INCOMPAT_EXTENDED_L2,
    Header,
)
from hypersdk_format_qcow2.options import CreateOptions


def pack_header(geometry: Geometry, options: CreateOptions, table_offset: int = 0, table_clusters: int = 0) -> bytes:
    """At most one cluster, to be written at offset 0. The table of feature names, which only old readers' messages
    need, gives way to a backing file's name in small clusters. Raises InvalidArgument (OPTION_INVALID)."""
    named = (feature_table(),) if options.version >= 3 else ()
    backing = (Extension(EXT_BACKING_FORMAT, options.backing_fmt.encode()),) if options.backing_file else ()
    for extensions in ((*backing, *named), backing):
        packed = _header(geometry, options, extensions, table_offset, table_clusters).pack()
        if len(packed) <= geometry.cluster_size:
            return packed
    what = f"does not fit into the header, which is one cluster of {geometry.cluster_size} bytes"
    raise InvalidArgument(
        f"backing_file {what}; use a larger cluster_size or a shorter name",
        reason="OPTION_INVALID", violations=(FieldViolation("options.backing_file", what),),
    )  # fmt: skip


def _header(
    geometry: Geometry,
    options: CreateOptions,
    extensions: tuple[Extension, ...],
    table_offset: int,
    table_clusters: int,
) -> Header:
    incompatible = INCOMPAT_EXTENDED_L2 if options.extended_l2 else 0
    incompatible |= INCOMPAT_COMPRESSION if options.compression_type != "zlib" else 0
    return Header(
        version=options.version,
        cluster_bits=options.cluster_bits,
        size=round_up(geometry.size, 512),  # QEMU counts in sectors and would drop the tail
        l1_entries=geometry.l1_entries,
        l1_offset=geometry.cluster_size,
        reftable_offset=table_offset,
        reftable_clusters=table_clusters,
        incompatible=incompatible,
        compatible=COMPAT_LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        refcount_order=options.refcount_order,
        compression=options.compression_type,
        backing_file=options.backing_file or None,
        extensions=extensions,
    )

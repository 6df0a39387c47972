"""VMDK, the disk format of VMware, read in all its subformats and written in the hosted ones.

    format      VmdkFormat, what the entry point names
    options     the options of open and create
    opening     from a file to a source: descriptor, extents, parent chain
    source      VmdkSource: extents in a row, each with its part of the parent below it
    descriptor  the text descriptor, read          identity   … and written: CID, UUIDs, geometry
    header      the sparse extent's header         markers    stream markers and the footer
    cowd        vmfsSparse                         sesparse   seSparse
    geometry    what all three say of their tables, checked
    tables      grain directories and tables       extents    flat, zero and sparse extents
    grains      compressed grains
    sparse_sink, stream_sink   the writers of one file; split_sink of several
    check       consistency                        measure    how large a file will be

Specification: "VMware Virtual Disks, Virtual Disk Format 5.0" (cited as VDF 5.0); COWD and seSparse by observation.
"""

from hypersdk_format_vmdk.format import VmdkFormat

__all__ = ["VmdkFormat"]

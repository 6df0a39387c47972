"""VHDX, the disk format of Hyper-V, read in all its kinds and written as dynamic and fixed disks.

    format      VhdxFormat, what the entry point names
    options     the options of open and create
    opening     from a file to a source: header, log, regions, metadata, parent chain
    source      VhdxSource: blocks over an optional parent         describe   what info() tells
    layout      constants and GUIDs           geometry   what the metadata say of blocks and the BAT
    header, regions, metadata, locator        the structures that are parsed once
    log         finding the active sequence   replay     its effect, as an overlay in memory
    blockmap    the block allocation table    bitmaps    sectors of partially present blocks
    builder     the structures of a new file  batwriter, sink   the two writers
    check, measure                            consistency, size ahead
    crc32c      the checksum of them all

Specification: [MS-VHDX] "Virtual Hard Disk v2 (VHDX) File Format", cited by its sections.
"""

from hypersdk_format_vhdx.format import VhdxFormat

__all__ = ["VhdxFormat"]

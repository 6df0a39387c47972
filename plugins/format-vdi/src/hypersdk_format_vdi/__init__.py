"""VDI, the disk format of VirtualBox, read and written.

    format     VdiFormat, what the entry point names
    options    the options of open and create
    layout     numbers of the format and our limits
    header     the header, versions 1.x
    blocks     the block map, judged
    source     VdiSource: where the bytes lie
    opening    from a file to a source, with its chain of parents
    dynamic_sink, static_sink   the two writers
    check, measure

Specification: none is published; by the descriptions of the format in VirtualBox's forum ("All about VDIs") and by
observation of images.
"""

from hypersdk_format_vdi.format import VdiFormat

__all__ = ["VdiFormat"]

"""VHD, the disk format of Virtual PC and Hyper-V (qemu-img's name: vpc), read and written.

    format     VpcFormat, what the entry point names
    options    the options of open and create
    layout     numbers of the format and our limits
    footer     the hard disk footer          geometry  cylinders, heads, sectors; which size counts
    header     the dynamic disk header       locators  where a parent's name is found
    structures footer and header of one file, whichever copies are sound
    bat        the block allocation table, judged
    source     fixed, dynamic and differencing disks as one BlockSource
    opening    from a file to a source, with its chain of parents
    fixed_sink, dynamic_sink   the two writers
    check, measure

Specification: "Virtual Hard Disk Image Format Specification", Microsoft, October 11, 2006 (cited as VHD 1.0).
"""

from hypersdk_format_vpc.format import VpcFormat

__all__ = ["VpcFormat"]

"""OVF and OVA packages as disk images: a disk of a package is read, and a package with one disk is written.

    format    OvaFormat, what the entry point names
    options   the options of open and create
    opening   from a package to a source: which disk, which file, which format
    source    OvaSource: that disk, and what the package says
    layout    where the parts of a new package lie
    sink      OvaSink: writes the package in one pass      check    manifest and disks

The package itself (descriptor, archive, manifest) is `hypersdk.data.ovf`; disk images are the other installed formats',
reached through the registry and never imported. Specification: DMTF DSP0243 1.1 and 2.1.
"""

from hypersdk_format_ova.format import OvaFormat

__all__ = ["OvaFormat"]

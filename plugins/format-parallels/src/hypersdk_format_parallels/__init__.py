"""Parallels expandable disk images (.hdd, .hds), read only, as a HyperSDK format plugin.

`ParallelsFormat` is the entry point; everything else is internal.
Written from QEMU's docs/interop/parallels.txt, whose names are used.
"""

from hypersdk_format_parallels.format import ParallelsFormat

__all__ = ["ParallelsFormat"]

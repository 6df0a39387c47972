"""Bochs growing disk images (redolog), read only, as a HyperSDK format plugin.

`BochsFormat` is the entry point; everything else is internal.
Written from the layout in Bochs' documentation of its harddisk images.
"""

from hypersdk_format_bochs.format import BochsFormat

__all__ = ["BochsFormat"]

"""Compressed loop images (cloop, version 2), read only, as a HyperSDK format plugin.

`CloopFormat` is the entry point; everything else is internal.
Written from the cloop driver's description of its file layout.
"""

from hypersdk_format_cloop.format import CloopFormat

__all__ = ["CloopFormat"]

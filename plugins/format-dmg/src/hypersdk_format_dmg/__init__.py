"""Apple disk images (UDIF, .dmg), read only, as a HyperSDK format plugin.

`DmgFormat` is the entry point; everything else is internal.
Written from published descriptions of UDIF's trailer (koly) and block tables (mish).
"""

from hypersdk_format_dmg.format import DmgFormat

__all__ = ["DmgFormat"]

"""QCOW disk images (QEMU's first copy-on-write format, version 1), read only, as a HyperSDK format plugin.

`QcowFormat` is the entry point; everything else is internal.
Written from the format's published description.
"""

from hypersdk_format_qcow.format import QcowFormat

__all__ = ["QcowFormat"]

"""QED disk images (QEMU enhanced disk), read only, as a HyperSDK format plugin.

`QedFormat` is the entry point; everything else is internal.
Written from QEMU's docs/interop/qed_spec.txt, whose names are used.
"""

from hypersdk_format_qed.format import QedFormat

__all__ = ["QedFormat"]

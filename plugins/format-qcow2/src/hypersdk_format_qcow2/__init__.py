"""QCOW2 disk images (QEMU's copy-on-write format), versions 2 and 3, as a HyperSDK format plugin.

`Qcow2Format` is the entry point; everything else is internal. Written from QEMU's docs/interop/qcow2.txt;
section names in comments are that document's.
"""

from hypersdk_format_qcow2.format import Qcow2Format

__all__ = ["Qcow2Format"]

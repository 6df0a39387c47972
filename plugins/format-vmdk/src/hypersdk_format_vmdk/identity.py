"""What makes a written disk an individual: CID, UUIDs, geometry, and the descriptor's text that carries them.

The keys are those of VMware's own descriptors and, for `ddb.uuid.*`, VirtualBox's, which each ignores of the other.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

from hypersdk.data.images.partial import published_name

from hypersdk_format_vmdk.layout import CID_NONE, SECTOR
from hypersdk_format_vmdk.options import CreateOptions

DESCRIPTOR_SECTORS = 20
"""Room for the embedded descriptor, as VMware and QEMU leave it."""

_TEMPLATE = """\
# Disk DescriptorFile
version=1
CID={cid:08x}
parentCID=ffffffff
createType="{create_type}"

# Extent description
{extents}

# The Disk Data Base
#DDB

ddb.adapterType = "{adapter}"
ddb.geometry.cylinders = "{cylinders}"
ddb.geometry.heads = "{heads}"
ddb.geometry.sectors = "63"
ddb.longContentID = "{content}"
ddb.toolsVersion = "{tools}"
ddb.uuid = "{vmware_uuid}"
ddb.uuid.image = "{image_uuid}"
ddb.uuid.modification = "{modification_uuid}"
ddb.uuid.parent = "00000000-0000-0000-0000-000000000000"
ddb.uuid.parentmodification = "00000000-0000-0000-0000-000000000000"
ddb.virtualHWVersion = "{hwversion}"
"""


def embedded_descriptor(path: Path, sectors: int, options: CreateOptions) -> bytes:
    """The descriptor of a disk in one sparse file, padded to DESCRIPTOR_SECTORS. `path`: of the file."""
    text = render_descriptor([f'RW {sectors} SPARSE "{plain_name(path)}"'], sectors, options)
    return text.ljust(DESCRIPTOR_SECTORS * SECTOR, b"\0")


def render_descriptor(extents: Sequence[str], sectors: int, options: CreateOptions) -> bytes:
    """A new disk's descriptor with these extent lines."""
    cid = new_cid()
    cylinders, heads = geometry(sectors, options.adapter_type)
    text = _TEMPLATE.format(
        cid=cid,
        create_type=options.subformat,
        extents="\n".join(extents),
        adapter=options.adapter_type,
        cylinders=cylinders,
        heads=heads,
        content=f"{secrets.token_hex(12)}{cid:08x}",
        tools=options.toolsversion,
        vmware_uuid=_vmware_uuid(),
        image_uuid=uuid.uuid4(),
        modification_uuid=uuid.uuid4(),
        hwversion=options.hwversion,
    )
    return text.encode("utf-8", "surrogateescape")


def new_cid() -> int:
    """Random, but neither "no parent" (ffffffff) nor "see longContentID" (fffffffe) nor 0."""
    return 1 + secrets.randbelow(CID_NONE - 2)


def geometry(sectors: int, adapter: str) -> tuple[int, int]:
    """Cylinders and heads, of 63 sectors a track; capped where VMware caps them."""
    heads, most = (16, 16383) if adapter == "ide" else (255, 65535)
    return max(1, min(most, sectors // (heads * 63))), heads


def _vmware_uuid() -> str:
    """VMware's own form: 16 bytes in hexadecimal, a dash in the middle, beginning with 60 00 C2 9."""
    raw = bytes([0x90 | secrets.randbelow(16)]) + secrets.token_bytes(12)
    return f"60 00 C2 {raw[:5].hex(' ')}-{raw[5:].hex(' ')}"


def plain_name(path: Path) -> str:
    """The name under which a file, perhaps still a partial one, is known in descriptors: nothing in it can end the
    quoted string, or makes it a path."""
    return "".join("_" if c in '"\r\n\\' else c for c in published_name(path))[:255]

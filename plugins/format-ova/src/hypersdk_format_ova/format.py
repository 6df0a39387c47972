"""OvaFormat: the ImageFormat that the entry point names. It judges heads; everything else is imported when it is
needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.data.ovf.archive import BLOCK, parse_header
from hypersdk.plugin import CheckReport, ImageFormat

from hypersdk_format_ova.options import CREATE_HELP, parse_create

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

_EXTENDED = {b"x", b"g", b"L"}


class OvaFormat(ImageFormat):
    """Stateless."""

    name = "ova"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 -- of the contract
        """An archive that begins with a descriptor (DSP0243 section 5.2 wants it first), or a descriptor itself."""
        at = 0
        while (header := parse_header(head[at : at + BLOCK])) is not None:
            if header.kind not in _EXTENDED:
                return 100 if header.name.lower().endswith(".ovf") else 0
            at += BLOCK + -(-header.size // BLOCK) * BLOCK
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        return 100 if text.startswith(b"<") and b"Envelope" in text and b"/ovf/envelope/" in text else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `disk`, `chain`; see `options`.

        Raises MalformedImage (OVF_…, OVA_…, IMAGE_TRUNCATED), Unsupported, PermissionDenied (REFERENCE_REFUSED),
        NotFound (DISK_NOT_FOUND, REFERENCED_FILE_MISSING, FORMAT_UNKNOWN), and what the disk's own format raises."""
        from hypersdk_format_ova.opening import open_disk

        return open_disk(file, options)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """Options: see `create_options`. Needs format vmdk. Raises as that does, and InvalidArgument."""
        from hypersdk_format_ova.sink import OvaSink

        return OvaSink(file, size, parse_create(options, file.path), resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """The archive, every digest of the manifest, and each disk by its own format. Nothing is repaired: that would
        make the digests wrong."""
        from hypersdk_format_ova.check import check_package

        return check_package(file, repair=repair)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(Upper bound: what compression saves is not foreseen.)"""
        from hypersdk_format_ova.layout import upper_bound

        return upper_bound(source, parse_create(options))

    def create_options(self) -> Mapping[str, str]:
        return CREATE_HELP

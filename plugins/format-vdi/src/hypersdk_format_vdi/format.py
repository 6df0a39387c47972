"""VdiFormat: the ImageFormat that the entry point names. It judges heads and options; everything else is imported
when it is needed, because numpy alone costs 70 ms of a command's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.errors import InvalidArgument
from hypersdk.plugin import CheckReport, ImageFormat

from hypersdk_format_vdi.layout import MAX_ENTRIES, SIGNATURE, SIGNATURE_AT
from hypersdk_format_vdi.options import CREATE_HELP, parse_create, parse_open

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource


class VdiFormat(ImageFormat):
    """Stateless."""

    name = "vdi"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 -- of the contract
        return 100 if head[SIGNATURE_AT : SIGNATURE_AT + 4] == SIGNATURE else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain=on` reads the parents of a differencing disk, by the names in `backing_file`; `chain=off`
        opens it for `info` alone.

        Raises MalformedImage, Unsupported, FailedPrecondition (IMAGE_HAS_PARENT, PARENT_MISMATCH), PermissionDenied
        (REFERENCE_REFUSED) and NotFound for parents that are not plain files beside the image."""
        from hypersdk_format_vdi.opening import open_source

        try:
            chosen = parse_open(options)
        except InvalidArgument:
            file.close()
            raise
        return open_source(file, chosen)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """Options: see `create_options`. A size that is no multiple of 512 is stored rounded up, zeros behind it."""
        from hypersdk_format_vdi.dynamic_sink import DynamicSink
        from hypersdk_format_vdi.static_sink import StaticSink

        chosen = parse_create(options)
        most = MAX_ENTRIES * chosen.block
        if not 0 < size <= most:
            raise InvalidArgument(f"a VDI holds from 1 to {most} bytes, not {size}", reason="IMAGE_SIZE_INVALID")
        sink = StaticSink if chosen.static else DynamicSink
        return sink.create(file, size, chosen.block, resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """Header and block map. Unused blocks cannot be removed in place: convert."""
        from hypersdk_format_vdi.check import check_image

        return check_image(file, repair=repair)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(Upper bound: blocks that turn out to be zeros are not foreseen.)"""
        from hypersdk_format_vdi.measure import upper_bound

        return upper_bound(source, parse_create(options))

    def create_options(self) -> Mapping[str, str]:
        return CREATE_HELP

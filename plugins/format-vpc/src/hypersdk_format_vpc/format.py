"""VpcFormat: the ImageFormat that the entry point names. It judges heads and options; everything else is imported
when it is needed, because numpy alone costs 70 ms of a command's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.errors import InvalidArgument
from hypersdk.plugin import CheckReport, ImageFormat

from hypersdk_format_vpc.footer import checksum_matches
from hypersdk_format_vpc.layout import FOOTER_BYTES, FOOTER_COOKIE, MAX_SIZE
from hypersdk_format_vpc.options import CREATE_HELP, parse_create, parse_open

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource


class VpcFormat(ImageFormat):
    """Stateless."""

    name = "vpc"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 -- of the contract
        """100 for the footer's copy at the start or a sound footer at the end; 50 for a damaged one."""
        if head.startswith(FOOTER_COOKIE):
            return 100
        if tail.startswith(FOOTER_COOKIE) and len(tail) == FOOTER_BYTES:
            return 100 if checksum_matches(tail, 64) else 50
        return 50 if tail[1:].startswith(FOOTER_COOKIE) and len(tail) == FOOTER_BYTES else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain=on` reads the parents of a differencing disk, `chain=off` opens it for `info` alone;
        `ignore_timestamp`, `force_size_calc`.

        Raises MalformedImage, Unsupported, FailedPrecondition (IMAGE_HAS_PARENT, PARENT_MISMATCH), PermissionDenied
        (REFERENCE_REFUSED) and NotFound for parents that are not plain files beside the image."""
        from hypersdk_format_vpc.opening import open_source

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
        """Options: see `create_options`. Without force_size the image is larger than asked for by up to a cylinder,
        zeros behind the end."""
        from hypersdk_format_vpc.dynamic_sink import DynamicSink
        from hypersdk_format_vpc.fixed_sink import FixedSink
        from hypersdk_format_vpc.geometry import rounded

        chosen = parse_create(options)
        if not 0 < size <= MAX_SIZE:
            raise InvalidArgument(f"a VHD holds from 1 to {MAX_SIZE} bytes, not {size}", reason="IMAGE_SIZE_INVALID")
        capacity, geometry = rounded(size, exact=chosen.force_size)
        if chosen.fixed:
            return FixedSink.create(file, size, capacity, geometry, resume)
        return DynamicSink.create(file, size, capacity, geometry, chosen.block, resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """Footers, header and table. Unused blocks cannot be removed in place: convert."""
        from hypersdk_format_vpc.check import check_image

        return check_image(file, repair=repair)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(Upper bound: blocks that turn out to be zeros are not foreseen.)"""
        from hypersdk_format_vpc.measure import upper_bound

        return upper_bound(source, parse_create(options))

    def create_options(self) -> Mapping[str, str]:
        return CREATE_HELP

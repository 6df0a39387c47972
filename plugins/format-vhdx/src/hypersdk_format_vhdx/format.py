"""VhdxFormat: the ImageFormat that the entry point names. It judges heads and options; everything else is imported
when it is needed, because numpy alone costs 70 ms of a command's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hypersdk.errors import InvalidArgument
from hypersdk.plugin.image_format import CheckReport, ImageFormat

from hypersdk_format_vhdx.layout import FILE_MAGIC, MAX_DISK
from hypersdk_format_vhdx.options import CREATE_HELP, parse_create

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource


class VhdxFormat(ImageFormat):
    """Stateless."""

    name: ClassVar[str] = "vhdx"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 -- of the contract
        return 100 if head.startswith(FILE_MAGIC) else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain=on` reads the parents of a differencing disk, `chain=off` opens it for `info` alone. The log
        of an image that was not closed is replayed in memory.

        Raises MalformedImage (LOG_CORRUPT among its reasons), Unsupported (VERSION_UNSUPPORTED, FEATURE_UNSUPPORTED,
        LOG_TOO_LARGE), FailedPrecondition (IMAGE_HAS_PARENT, PARENT_MISMATCH), PermissionDenied (REFERENCE_REFUSED)
        and NotFound for parents that are not plain files beside the image."""
        from hypersdk_format_vhdx.opening import open_source

        return open_source(file, options)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """Options: see `create_options`. A size that is no multiple of 512 is rounded up, zeros behind it."""
        from hypersdk_format_vhdx.sink import create_sink

        chosen = parse_create(options)
        if not 0 < size <= MAX_DISK:
            raise InvalidArgument(
                f"a VHDX disk has from 1 byte to 64 TiB, not {size} bytes", reason="IMAGE_SIZE_INVALID"
            )
        return create_sink(file, size, chosen, resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """Every entry of the block allocation table, blocks that share a place, what nothing uses, and both copies of
        headers and region table. Leaks are not mended in place: convert."""
        from hypersdk_format_vhdx.check import check_image

        return check_image(file, repair=repair)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(The file's size. Blocks are allocated whole; what nobody writes in them is a hole and takes no space.)"""
        from hypersdk_format_vhdx.measure import upper_bound

        return upper_bound(source, parse_create(options))

    def create_options(self) -> Mapping[str, str]:
        return CREATE_HELP

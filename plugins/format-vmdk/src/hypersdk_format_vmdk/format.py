"""VmdkFormat: the ImageFormat that the entry point names. It judges heads and options; everything else is imported
when it is needed, because numpy alone costs 70 ms of a command's start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypersdk.errors import InvalidArgument, Unsupported
from hypersdk.plugin import CheckReport, ImageFormat

from hypersdk_format_vmdk.descriptor import looks_like_descriptor
from hypersdk_format_vmdk.layout import COWD_MAGIC, HOSTED_MAGIC, SESPARSE_MAGIC
from hypersdk_format_vmdk.options import CREATE_HELP, ONE_FILE, SEVERAL_FILES, parse_chain, parse_create

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

    from hypersdk_format_vmdk.source import VmdkSource


class VmdkFormat(ImageFormat):
    """Stateless."""

    name = "vmdk"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 -- of the contract
        if head.startswith((HOSTED_MAGIC, COWD_MAGIC, SESPARSE_MAGIC)) or looks_like_descriptor(head):
            return 100
        return 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> VmdkSource:
        """Options: `chain=on` reads the parents of a delta disk, `chain=off` opens it for `info` alone.

        Raises MalformedImage, Unsupported, FailedPrecondition (IMAGE_HAS_PARENT, PARENT_MISMATCH,
        EXTENT_WITHOUT_DESCRIPTOR), PermissionDenied (REFERENCE_REFUSED) and NotFound for extents that are not
        plain files beside the image."""
        from hypersdk_format_vmdk.opening import open_source

        try:
            chain = parse_chain(options)
        except InvalidArgument:
            file.close()
            raise
        return open_source(file, chain)

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """Options: see `create_options`. A size that is no multiple of 512 is stored rounded up, zeros behind it.

        Raises InvalidArgument, Unsupported (SUBFORMAT_UNSUPPORTED: several files where one can be made), and what
        ImageFile.create_sibling raises."""
        from hypersdk_format_vmdk.grain_sink import MAX_SIZE
        from hypersdk_format_vmdk.sparse_sink import SparseSink
        from hypersdk_format_vmdk.split_sink import SplitSink
        from hypersdk_format_vmdk.stream_sink import StreamSink

        chosen = parse_create(options)
        if not 0 < size <= MAX_SIZE:
            raise InvalidArgument(
                f"a VMDK holds from 1 to {MAX_SIZE} bytes, not {size}", reason="IMAGE_SIZE_INVALID"
            )
        if chosen.subformat in SEVERAL_FILES:
            if file.new_siblings is None:
                raise Unsupported(
                    f"subformat {chosen.subformat} is several files, and this target takes one; use one of "
                    f"{', '.join(ONE_FILE)}",
                    reason="SUBFORMAT_UNSUPPORTED", metadata={"subformat": chosen.subformat},
                )  # fmt: skip
            return SplitSink(file, size, chosen, resume)
        sink = StreamSink if chosen.subformat == "streamOptimized" else SparseSink
        return sink.create(file, size, chosen) if resume is None else sink.resume(file, size, resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """Directories, tables and grain markers, and what nothing uses. Leaks cannot be mended in place: convert."""
        from hypersdk_format_vmdk.check import check_image

        return check_image(file, repair=repair)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """(Upper bound: grains that turn out to be zeros, and what compression saves, are not foreseen.)"""
        from hypersdk_format_vmdk.measure import upper_bound

        return upper_bound(source, parse_create(options))

    def create_options(self) -> Mapping[str, str]:
        return CREATE_HELP

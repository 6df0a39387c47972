"""Qcow2Format: the contract's face of this plugin. It only chooses who does the work, and imports it when it
is needed, so that listing formats costs no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hypersdk.plugin.image_format import CheckReport, ImageFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.sink import BlockSink
    from hypersdk.data.source import BlockSource

_MAGIC = b"QFI\xfb"


class Qcow2Format(ImageFormat):
    """QCOW2 versions 2 and 3 (`compat` 0.10 and 1.1)."""

    name: ClassVar[str] = "qcow2"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002 - the contract's signature
        """100 for the magic number with version 2 or 3; 50 for a later version, which `open` then refuses by
        name."""
        if head[:4] != _MAGIC or len(head) < 8:
            return 0
        version = int.from_bytes(head[4:8], "big")
        if version in (2, 3):
            return 100
        return 50 if version > 3 else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain=on|off`, `backing_fmt=NAME` for images that do not record it, `snapshot=ID or
        name`, `allow_corrupt=on|off`."""
        from hypersdk_format_qcow2.opening import open_source

        return open_source(file, dict(options or {}))

    def create(
        self,
        file: ImageFile,
        size: int,
        options: Mapping[str, str] | None = None,
        resume: Mapping[str, Any] | None = None,
    ) -> BlockSink:
        """See `options.HELP` for the options. `resume` is what `Qcow2Sink.checkpoint` returned."""
        from hypersdk_format_qcow2.options import parse_create_options
        from hypersdk_format_qcow2.sink import Qcow2Sink

        return Qcow2Sink(file, size, parse_create_options(options or {}), resume)

    def check(self, file: ImageFile, *, repair: bool = False) -> CheckReport:
        """Recount every reference to a host cluster and compare with the stored refcounts."""
        from hypersdk_format_qcow2.check import check_image

        return check_image(file, repair=repair)

    def mend(self, file: ImageFile) -> CheckReport:
        """Leaks; refcounts, COPIED flags and the dirty mark of an image whose tables are sound otherwise."""
        from hypersdk_format_qcow2.check import check_image

        return check_image(file, repair=True, mend=True)

    def create_options(self) -> Mapping[str, str]:
        from hypersdk_format_qcow2.options import HELP

        return dict(HELP)

    def measure(self, source: BlockSource, options: Mapping[str, str] | None = None) -> int:
        """Exact for an uncompressed image of the source's DATA extents; an upper bound with `compress=on`."""
        from hypersdk_format_qcow2.measure import measure_bytes
        from hypersdk_format_qcow2.options import parse_create_options

        return measure_bytes(source, parse_create_options(options or {}))

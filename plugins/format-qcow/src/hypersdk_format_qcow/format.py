"""The contract's face of this plugin. The parser, and numpy with it, is imported when an image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from hypersdk.data.layers import open_layers
from hypersdk.data.readonly import ReadOnlyFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource

_MAGIC = b"QFI\xfb\0\0\0\1"


class QcowFormat(ReadOnlyFormat):
    """QCOW version 1. Stateless."""

    name: ClassVar[str] = "qcow"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002  the contract's signature
        """Later versions have the same first four bytes, and are qcow2's."""
        return 100 if head[:8] == _MAGIC else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain=on|off`, `backing_fmt=NAME`: QCOW does not record the format of a backing file."""
        from hypersdk_format_qcow.header import parse

        return open_layers(self.name, file, options, parse)

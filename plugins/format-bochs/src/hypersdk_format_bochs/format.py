"""The contract's face of this plugin. The parser, and numpy with it, is imported when an image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from hypersdk.data.layers import open_layers
from hypersdk.data.readonly import ReadOnlyFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource

_MAGIC = b"Bochs Virtual HD Image\0"


class BochsFormat(ReadOnlyFormat):
    """Bochs redolog of subtype Growing. Stateless."""

    name: ClassVar[str] = "bochs"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002  the contract's signature
        return 100 if head[: len(_MAGIC)] == _MAGIC else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain`, which has no effect: growing images name no backing file."""
        from hypersdk_format_bochs.header import parse

        return open_layers(self.name, file, options, parse)

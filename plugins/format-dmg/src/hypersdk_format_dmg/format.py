"""The contract's face of this plugin. The parser, and numpy with it, is imported when an image is opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from hypersdk.data.layers import open_layers
from hypersdk.data.readonly import ReadOnlyFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile
    from hypersdk.data.source import BlockSource

_TRAILER = b"koly"
_ENCRYPTED = (b"encrcdsa", b"cdsaencr")


class DmgFormat(ReadOnlyFormat):
    """Universal disk image format. Stateless."""

    name: ClassVar[str] = "dmg"

    def probe(self, head: bytes, tail: bytes, size: int) -> int:  # noqa: ARG002  the contract's signature
        """100 by the trailer, which is the last 512 bytes; 50 for an encrypted image, which `open` refuses by name."""
        if tail[-512:-508] == _TRAILER:
            return 100
        return 50 if head[:8] == _ENCRYPTED[0] or tail[-8:] == _ENCRYPTED[1] else 0

    def open(self, file: ImageFile, options: Mapping[str, str] | None = None) -> BlockSource:
        """Options: `chain`, which has no effect: these images name no backing file."""
        from hypersdk_format_dmg.header import parse

        return open_layers(self.name, file, options, parse)

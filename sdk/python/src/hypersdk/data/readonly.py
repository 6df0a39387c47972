"""ReadOnlyFormat: what the formats that we only read have in common: `create` says which formats to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from hypersdk.errors import Unsupported
from hypersdk.plugin.image_format import ImageFormat

if TYPE_CHECKING:
    from hypersdk.data.imagefile import ImageFile


class ReadOnlyFormat(ImageFormat):
    """Subclasses give `name`, `probe` and `open`."""

    def create(
        self,
        file: ImageFile,  # noqa: ARG002  the contract's signature
        size: int,  # noqa: ARG002
        options: Mapping[str, str] | None = None,  # noqa: ARG002
        resume: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> NoReturn:
        """Raises Unsupported (FORMAT_READ_ONLY) always."""
        raise Unsupported(
            f"{self.name} images are read, not written; write qcow2, vmdk, vpc, vhdx, vdi or raw instead",
            reason="FORMAT_READ_ONLY",
        )

"""Writes a fixed VHD: the disk as it is, then the footer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self
from uuid import UUID, uuid4

from hypersdk.data.flatsink import FlatSink, resume_flat
from hypersdk.data.imagefile import ImageFile

from hypersdk_format_vpc.footer import new_footer
from hypersdk_format_vpc.geometry import Geometry
from hypersdk_format_vpc.layout import EPOCH, NOWHERE, TYPE_FIXED


class FixedSink(FlatSink):
    """`capacity`, in bytes, is what the image will have; `size`, what was asked for, may be less."""

    def __init__(self, file: ImageFile, size: int, capacity: int, geometry: Geometry, uuid: UUID, end: int = 0) -> None:
        super().__init__(file, size, start=0, written_end=end)
        self._capacity = capacity
        self._geometry = geometry
        self._uuid = uuid

    @classmethod
    def create(
        cls, file: ImageFile, size: int, capacity: int, geometry: Geometry, state: Mapping[str, Any] | None
    ) -> Self:
        """With `state`, a checkpoint, go on from there."""
        end = 0 if state is None else resume_flat(file, state, size=size, start=0)
        file.truncate(capacity)
        return cls(file, size, capacity, geometry, uuid4(), end)

    def _seal(self) -> None:
        footer = new_footer(
            TYPE_FIXED, self._capacity, self._geometry, uuid=self._uuid, timestamp=int(time.time()) - EPOCH,
            data_offset=NOWHERE,
        )  # fmt: skip
        self._file.pwrite(self._capacity, footer.pack())

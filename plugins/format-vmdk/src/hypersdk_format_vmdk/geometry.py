"""What every kind of sparse extent says of its tables, in bytes, and the checks that hold for all of them.

The three headers (`header`, `cowd`, `sesparse`) turn what they read into a GrainGeometry; `tables` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypersdk.errors import MalformedImage

from hypersdk_format_vmdk.layout import MAX_CAPACITY, MAX_COMPRESSED_GRAIN, MAX_DIRECTORY, MAX_GRAIN

Raw = npt.NDArray[np.unsignedinteger[Any]]
"""Entries as stored."""

Entries = npt.NDArray[np.int64]
"""Byte offsets in the extent's file, or one of the marks below."""

Decoder = Callable[[Raw], Entries]

UNALLOCATED = 0
"""No table or grain here: the parent's bytes, zeros without a parent."""

ZEROED = -1
"""Zeros, whatever the parent holds."""

IMPOSSIBLE = -2
"""An entry that means nothing; never a position."""


@dataclass(frozen=True, slots=True)
class GrainGeometry:
    """Sizes and offsets in bytes.

    capacity          of the extent's address space; need not be a multiple of `grain`
    grain             bytes that one table entry stands for, a power of two
    entries           entries of a table
    entry_bytes       4 or 8
    directory_offset  where the grain directory lies
    redundant_offset  where its copy lies, 0: there is none
    lowest            the first byte of the file where a grain may lie
    compressed        grains are zlib streams behind a marker
    data_start        where grains begin, and nothing else comes after; 0 where tables may lie among them
    decode_directory, decode_table   from raw entries to Entries
    """

    capacity: int
    grain: int
    entries: int
    entry_bytes: int
    directory_offset: int
    lowest: int
    decode_directory: Decoder
    decode_table: Decoder
    redundant_offset: int = 0
    compressed: bool = False
    data_start: int = 0

    @property
    def grains(self) -> int:
        return -(-self.capacity // self.grain)

    @property
    def tables(self) -> int:
        return -(-self.grains // self.entries)

    @property
    def table_bytes(self) -> int:
        return self.entries * self.entry_bytes

    @property
    def directory_bytes(self) -> int:
        return self.tables * self.entry_bytes

    def validate(self, name: str, structure: str) -> None:
        """MalformedImage unless the sizes are possible. Offsets are checked where they are used."""

        def fault(what: str) -> MalformedImage:
            return MalformedImage(f"{name}: {structure} has {what}", structure=structure, offset=0)

        if not 0 < self.capacity <= MAX_CAPACITY:
            raise fault(f"an impossible capacity of {self.capacity} bytes")
        if self.grain <= 0 or self.grain & (self.grain - 1) or self.grain > MAX_GRAIN:
            raise fault(f"an impossible grain size of {self.grain} bytes")
        if self.compressed and self.grain > MAX_COMPRESSED_GRAIN:
            raise fault(f"compressed grains of {self.grain} bytes; {MAX_COMPRESSED_GRAIN} is the most that is read")
        if not 0 < self.entries <= 4096:
            raise fault(f"grain tables of {self.entries} entries")
        if self.directory_bytes > MAX_DIRECTORY:
            raise fault(f"a grain directory of {self.directory_bytes} bytes; {MAX_DIRECTORY} is the most that is read")

"""Geometry: sizes of a disk's blocks and where their entries stand in the block allocation table (2.5)."""

from __future__ import annotations

from dataclasses import dataclass

from hypersdk_format_vhdx.layout import CHUNK_SECTORS


@dataclass(frozen=True, slots=True)
class Geometry:
    """size, block and sector in bytes; all checked by whoever makes one."""

    size: int
    block: int
    sector: int = 512
    has_parent: bool = False

    @property
    def blocks(self) -> int:
        return -(-self.size // self.block)

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks that share one sector bitmap block; 16 to 32,768."""
        return CHUNK_SECTORS * self.sector // self.block

    @property
    def chunks(self) -> int:
        return -(-self.blocks // self.chunk_ratio)

    @property
    def entries(self) -> int:
        """Of the whole table: after each chunk's payload blocks comes its bitmap's entry, which only a differencing
        disk needs after the last chunk."""
        if self.has_parent:
            return self.chunks * (self.chunk_ratio + 1)
        return self.blocks + (self.blocks - 1) // self.chunk_ratio

    def entry_of(self, block: int) -> int:
        return block + block // self.chunk_ratio

    def bitmap_entry_of(self, chunk: int) -> int:
        return chunk * (self.chunk_ratio + 1) + self.chunk_ratio

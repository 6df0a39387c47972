"""Cylinders, heads and sectors: the numbers of VHD 1.0's appendix, and which of an image's two sizes counts.

A footer has a size in bytes and a geometry, which rarely agree, because a geometry cannot say every size. Virtual PC
shows its guests the geometry's size; Hyper-V and all later products the footer's current size.
"""

from __future__ import annotations

from typing import NamedTuple

from hypersdk_format_vpc.layout import MAX_SIZE, SECTOR

VIRTUAL_PC = b"vpc "
"""Creator application of Virtual PC 2004 and 2007, whose guests see only what the geometry says."""


class Geometry(NamedTuple):
    cylinders: int
    heads: int
    sectors: int

    @property
    def bytes(self) -> int:
        return self.cylinders * self.heads * self.sectors * SECTOR


LARGEST = Geometry(65535, 16, 255)
"""Stands for "too large for a geometry": 127.5 GiB and everything above."""


def geometry_of(sectors: int) -> Geometry:
    """The geometry of a disk of `sectors` (VHD 1.0, "Appendix: CHS Calculation"); often of fewer sectors than that."""
    sectors = min(sectors, LARGEST.bytes // SECTOR)
    if sectors >= 65535 * 16 * 63:
        track, heads = 255, 16
        return Geometry(sectors // track // heads, heads, track)
    track = 17
    cylinders_heads = sectors // track
    heads = max(4, (cylinders_heads + 1023) // 1024)
    if cylinders_heads >= heads * 1024 or heads > 16:
        track, heads = 31, 16
        cylinders_heads = sectors // track
    if cylinders_heads >= heads * 1024:
        track, heads = 63, 16
        cylinders_heads = sectors // track
    return Geometry(cylinders_heads // heads, heads, track)


def rounded(size: int, *, exact: bool) -> tuple[int, Geometry]:
    """The size in bytes that an image of at least `size` gets, and its geometry. As QEMU does it: `exact` keeps the
    size (whole sectors) and says the largest geometry; otherwise the size grows to the next that a geometry can
    say, so that every reader sees the same, whichever of the two numbers it believes."""
    sectors = -(-size // SECTOR)
    if exact or sectors >= LARGEST.bytes // SECTOR:
        return sectors * SECTOR, LARGEST
    found = geometry_of(sectors)
    probe = sectors
    while found.bytes < sectors * SECTOR:
        probe += 1
        found = geometry_of(probe)
    return (sectors * SECTOR if found == LARGEST else found.bytes), found


def virtual_size(current: int, geometry: Geometry, creator: bytes, rule: str = "") -> tuple[int, str]:
    """The disk's size in bytes, and by which rule, "current_size" or "chs". The footer's current size counts, except
    in images of Virtual PC whose geometry is not the largest; `rule` overrides this. A geometry of more than the
    current size is never believed, for nothing is stored there."""
    by_geometry = rule == "chs" or (not rule and creator == VIRTUAL_PC)
    if by_geometry and geometry != LARGEST and 0 < geometry.bytes <= current:
        return geometry.bytes, "chs"
    return current, "current_size"


def is_possible(size: int) -> bool:
    return 0 < size <= MAX_SIZE

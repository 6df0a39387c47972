"""Sectors of a partially present block: which are the disk's own and which its parent's (2.5.1.2).

One bit for each logical sector of a chunk, the lowest bit of a byte first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from hypersdk_format_vhdx.blockmap import BlockMap, Run
from hypersdk_format_vhdx.geometry import Geometry
from hypersdk_format_vhdx.layout import CHUNK_SECTORS, FULLY_PRESENT, NOT_PRESENT
from hypersdk_format_vhdx.replay import ReplayedFile


def sector_runs(file: ReplayedFile, geometry: Geometry, blocks: BlockMap, run: Run) -> Iterator[Run]:
    """`run`, which is partially present, as runs that are FULLY_PRESENT or NOT_PRESENT. They begin and end at the
    run's own borders, and between them at sectors'."""
    sector = geometry.sector
    first, last = run.offset // sector, (run.offset + run.length - 1) // sector
    chunk = first // CHUNK_SECTORS
    place = blocks.bitmap_place(chunk)
    low, high = (first - chunk * CHUNK_SECTORS) // 8, (last - chunk * CHUNK_SECTORS) // 8
    raw = file.pread(place + low, high - low + 1, structure=f"sector bitmap {chunk}")
    skip = first - chunk * CHUNK_SECTORS - low * 8
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")[skip : skip + last - first + 1]
    borders = [0, *(np.flatnonzero(bits[1:] != bits[:-1]) + 1).tolist(), len(bits)]
    end = run.offset + run.length
    for start, stop in pairwise(borders):
        begin = max(run.offset, (first + start) * sector)
        length = min(end, (first + stop) * sector) - begin
        if bits[start]:
            yield Run(FULLY_PRESENT, begin, length, run.place + begin - run.offset)
        else:
            yield Run(NOT_PRESENT, begin, length, 0)

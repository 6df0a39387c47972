"""The header of a cloop image and its table of offsets, parsed and judged into a Layer."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.unitcodecs import inflate_zlib
from hypersdk.data.unitmap import CODED, Bounds, Entries, PagedMap
from hypersdk.errors import MalformedImage

_PREAMBLE = 128
"""A shell script that mounts the file, padded; the header follows."""
_MAGIC = b"#!/bin/sh\n#V2.0 Format\n"
_HEADER = struct.Struct(">2I")
_TABLE = _PREAMBLE + _HEADER.size
_SECTOR, _MAX_BLOCK, _MAX_BLOCKS = 512, 16 << 20, 1 << 26


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage."""
    name = file.path.name
    if file.pread(0, len(_MAGIC), structure="preamble") != _MAGIC:
        raise _fault(name, "preamble", 0, "is not cloop's, version 2")
    block, count = _HEADER.unpack(file.pread(_PREAMBLE, _HEADER.size, structure="header"))
    if not _SECTOR <= block <= _MAX_BLOCK or block % _SECTOR:
        raise _fault(name, "block size", _PREAMBLE, f"{block} is no multiple of {_SECTOR} up to {_MAX_BLOCK}")
    if count > _MAX_BLOCKS:
        raise _fault(name, "number of blocks", _PREAMBLE + 4, f"{count} is more than {_MAX_BLOCKS}")
    floor = _TABLE + 8 * (count + 1)
    if floor > file.size:
        raise MalformedImage(
            f"{name}: the table of {count + 1} offsets is longer than the file; it is truncated",
            structure="offsets table", offset=_TABLE, reason="IMAGE_TRUNCATED",
        )  # fmt: skip
    most = np.uint64(2 * block + 65536)

    def load(first: int, number: int) -> Entries:
        blob = file.pread(_TABLE + 8 * first, 8 * (number + 1), structure="offsets table")
        offsets = np.frombuffer(blob, ">u8").astype(np.uint64)
        stored = offsets[1:] - offsets[:-1]
        bad = np.flatnonzero((offsets[1:] <= offsets[:-1]) | (stored > most))
        if len(bad):
            at = first + int(bad[0])
            raise _fault(name, f"offset of block {at + 1}", _TABLE + 8 * (at + 1), "makes a block of impossible length")
        return Entries(np.full(number, CODED, np.uint8), offsets[:-1], stored)

    units = PagedMap(Bounds(file, block * count, floor, "block"), block, load)
    return Layer(units, block * count, block & -block, _describe(block, count), decoders=(inflate_zlib,))


def _describe(block: int, count: int) -> dict[str, Any]:
    return {
        "format": "cloop",
        "virtual_size": block * count,
        "cluster_size": block,
        "compressed": True,
        "dirty": False,
        "details": {"version": 2, "blocks": count},
    }


def _fault(name: str, structure: str, offset: int, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure, offset=offset)

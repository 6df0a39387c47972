"""The block tables (mish) of a UDIF image, judged together and made into a Layer: chunks of any size, in the order
of the disk, without gaps or overlaps."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from hypersdk.data.imagefile import ImageFile
from hypersdk.data.layers import Layer
from hypersdk.data.unitcodecs import bunzip2, inflate_zlib, unxz
from hypersdk.data.unitmap import CODED, PLAIN, ZERO, Bounds, Units, WholeMap
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_dmg.adc import decode_adc
from hypersdk_format_dmg.plist import block_tables
from hypersdk_format_dmg.trailer import Trailer, read_trailer

_MISH = struct.Struct(">4sI3Q2I")
_CHUNKS_AT = 204
_CHUNK = np.dtype([("kind", ">u4"), ("comment", ">u4"), ("sector", ">u8"), ("count", ">u8"), ("place", ">u8"),
                   ("stored", ">u8")])  # fmt: skip
_SECTOR = 512
_MAX_TABLES = 1024
"""There is one for each partition, and for what lies between them."""
_MOST = 1 << 53
"""Of any number in a table: sums of three stay below 2^63."""
_MAX_CHUNK, _MAX_ADC_CHUNK = 16 << 20, 1 << 20
"""Decoded bytes; hdiutil makes 256 KiB or 1 MiB. ADC is decoded in Python, hence less."""

_RAW, _COMMENT, _END = 0x00000001, 0x7FFFFFFE, 0xFFFFFFFF
_ADC = 0x80000004
_DECODERS = (decode_adc, inflate_zlib, bunzip2, unxz)
_KINDS = {0: ZERO, _RAW: PLAIN, 2: ZERO, _ADC: CODED, 0x80000005: CODED + 1, 0x80000006: CODED + 2,
          0x80000008: CODED + 3}  # fmt: skip
_NAMES = {0x80000007: "LZFSE"}
_CODEC_NAMES = ("adc", "zlib", "bzip2", "lzma")

Chunks = npt.NDArray[Any]


def parse(file: ImageFile) -> Layer:
    """Raises MalformedImage; Unsupported (CHUNK_KIND_UNSUPPORTED and what `read_trailer` raises)."""
    name = file.path.name
    trailer = read_trailer(file)
    xml = file.pread(trailer.plist_offset, trailer.plist_length, structure="property list")
    found = block_tables(xml, name, trailer.plist_offset)
    if not 0 < len(found) <= _MAX_TABLES:
        raise MalformedImage(
            f"{name}: the property list has {len(found)} block tables, not 1 to {_MAX_TABLES}",
            structure="property list", offset=trailer.plist_offset,
        )  # fmt: skip
    tables = [_table(raw, f"block table {number}", name, trailer) for number, raw in enumerate(found)]
    chunks = np.concatenate(tables)
    chunks = chunks[np.argsort(chunks["sector"], kind="stable")]
    units = _units(chunks, name, trailer)
    size = trailer.sectors * _SECTOR
    coded = chunks["count"][units.kinds >= CODED]
    largest = int(coded.max()) * _SECTOR if len(coded) else 65536
    return Layer(
        WholeMap(units, Bounds(file, size, 0, "chunk")), size, largest & -largest, _describe(units, trailer, largest),
        decoders=_DECODERS,
    )  # fmt: skip


def _table(raw: bytes, structure: str, name: str, trailer: Trailer) -> Chunks:
    """Its chunks with places in the file and sectors of the disk, those that only comment left out."""
    if len(raw) < _CHUNKS_AT or raw[:4] != b"mish":
        raise _fault(name, structure, "does not begin as one")
    _, _, first, _, data_offset, _, _ = _MISH.unpack_from(raw)
    count = int.from_bytes(raw[_CHUNKS_AT - 4 : _CHUNKS_AT], "big")
    if count * _CHUNK.itemsize > len(raw) - _CHUNKS_AT:
        raise _fault(name, structure, f"is too short for its {count} chunks")
    chunks: Chunks = np.frombuffer(raw, _CHUNK, count, _CHUNKS_AT).astype(_CHUNK.newbyteorder("="))
    chunks = chunks[(chunks["kind"] != _COMMENT) & (chunks["kind"] != _END) & (chunks["count"] != 0)]
    numbers = [chunks[field] for field in ("sector", "count", "place", "stored")]
    if first > _MOST or data_offset > _MOST or any((column > _MOST).any() for column in numbers):
        raise _fault(name, structure, "has offsets or sizes that no file has")
    chunks["sector"] += np.uint64(first)
    chunks["place"] += np.uint64(trailer.data_fork_offset + data_offset)
    return chunks


def _units(chunks: Chunks, name: str, trailer: Trailer) -> Units:
    kinds = np.zeros(len(chunks), np.uint8)
    known = np.zeros(len(chunks), np.bool_)
    for code, kind in _KINDS.items():
        here = chunks["kind"] == code
        kinds[here] = kind
        known |= here
    if not known.all():
        code = int(chunks["kind"][~known][0])
        raise Unsupported(
            f"{name} has chunks compressed with {_NAMES.get(code, f'the unknown method {code:#x}')}, which are not "
            "read; convert it with hdiutil to UDZO first",
            reason="CHUNK_KIND_UNSUPPORTED",
        )
    starts, lengths = chunks["sector"], chunks["count"]
    ends = starts + lengths
    edges = np.concatenate([np.zeros(1, np.uint64), ends])
    if (starts != edges[:-1]).any() or int(edges[-1]) != trailer.sectors:
        raise _fault(name, "block tables", f"do not cover the {trailer.sectors} sectors once, without gaps")
    most = np.where(kinds == CODED, _MAX_ADC_CHUNK, _MAX_CHUNK).astype(np.uint64)
    large = (lengths * np.uint64(_SECTOR) > most) | (chunks["stored"] > 2 * most)
    uneven = chunks["stored"] != lengths * np.uint64(_SECTOR)
    if (large & (kinds >= CODED)).any() or (uneven & (kinds == PLAIN)).any():
        raise _fault(name, "block tables", f"have a raw chunk of two lengths, or one of more than {_MAX_CHUNK} bytes")
    places = np.where(kinds == ZERO, np.uint64(0), chunks["place"])
    return Units((edges * np.uint64(_SECTOR)).astype(np.int64), kinds, places, chunks["stored"].copy())


def _describe(units: Units, trailer: Trailer, largest: int) -> dict[str, Any]:
    codecs = [codec for number, codec in enumerate(_CODEC_NAMES) if (units.kinds == CODED + number).any()]
    return {
        "format": "dmg",
        "virtual_size": trailer.sectors * _SECTOR,
        "cluster_size": largest,
        "compressed": bool(codecs),
        "dirty": False,
        "details": {"version": trailer.version, "variant": trailer.variant, "chunks": len(units.kinds),
                    "compression": codecs},
    }  # fmt: skip


def _fault(name: str, structure: str, problem: str) -> MalformedImage:
    return MalformedImage(f"{name}: {structure} {problem}", structure=structure)

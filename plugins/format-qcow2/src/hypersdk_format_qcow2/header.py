"""The header: parsing and judging it, and building one.

`parse_header` refuses what no reader may guess at: unknown incompatible features (named from the image's own
feature table), encryption, external data files. What it returns is within QEMU's limits and inside the file.
Tables it points at are read elsewhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hypersdk.data.imagefile import ImageFile
from hypersdk.errors import MalformedImage, Unsupported

from hypersdk_format_qcow2.extensions import (
    EXT_BACKING_FORMAT,
    EXT_FEATURE_NAMES,
    Extension,
    feature_names,
    pack_extensions,
    parse_extensions,
)
from hypersdk_format_qcow2.geometry import (
    MAX_CLUSTER_BITS,
    MAX_L1_BYTES,
    MAX_REFTABLE_BYTES,
    MIN_CLUSTER_BITS,
    Geometry,
)

MAGIC = b"QFI\xfb"
V2_LENGTH, V3_LENGTH, OUR_LENGTH = 72, 104, 112
MAX_BACKING_NAME = 1023

INCOMPAT_DIRTY = 1 << 0
INCOMPAT_CORRUPT = 1 << 1
INCOMPAT_DATA_FILE = 1 << 2
INCOMPAT_COMPRESSION = 1 << 3
INCOMPAT_EXTENDED_L2 = 1 << 4
INCOMPAT_KNOWN = 0b11111
COMPAT_LAZY_REFCOUNTS = 1 << 0
AUTOCLEAR_BITMAPS = 1 << 0

COMPRESSION_NAMES = {0: "zlib", 1: "zstd"}

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")


@dataclass(frozen=True, slots=True)
class Header:
    """One image's header. Offsets and sizes in bytes unless the name says clusters or entries."""

    version: int = 3
    cluster_bits: int = 16
    size: int = 0
    l1_entries: int = 0
    l1_offset: int = 0
    reftable_offset: int = 0
    reftable_clusters: int = 0
    snapshot_count: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = V3_LENGTH
    compression: str = "zlib"
    backing_file: str | None = None
    extensions: tuple[Extension, ...] = field(default=())

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    @property
    def extended_l2(self) -> bool:
        return bool(self.incompatible & INCOMPAT_EXTENDED_L2)

    @property
    def dirty(self) -> bool:
        return bool(self.incompatible & INCOMPAT_DIRTY)

    @property
    def corrupt(self) -> bool:
        return bool(self.incompatible & INCOMPAT_CORRUPT)

    @property
    def backing_format(self) -> str | None:
        for ext in self.extensions:
            if ext.kind == EXT_BACKING_FORMAT:
                return ext.data.decode("utf-8", "replace")
        return None

    def geometry(self, file_size: int) -> Geometry:
        return Geometry(self.version, self.cluster_bits, self.size, file_size, self.extended_l2)

    def pack(self) -> bytes:
        """The header with its extensions and backing name, to be written at offset 0."""
        tail = pack_extensions(self.extensions)
        length = V2_LENGTH if self.version == 2 else OUR_LENGTH
        name = (self.backing_file or "").encode()
        head = _V2.pack(
            MAGIC, self.version, length + len(tail) if name else 0, len(name), self.cluster_bits, self.size, 0,
            self.l1_entries, self.l1_offset, self.reftable_offset, self.reftable_clusters, self.snapshot_count,
            self.snapshots_offset,
        )  # fmt: skip
        if self.version >= 3:
            head += _V3.pack(self.incompatible, self.compatible, self.autoclear, self.refcount_order, length)
            head += bytes([1 if self.compression == "zstd" else 0]).ljust(OUR_LENGTH - V3_LENGTH, b"\0")
        return head + tail + name


def parse_header(file: ImageFile) -> Header:
    """The judged header of `file`. Raises MalformedImage, Unsupported."""
    raw = file.pread(0, V2_LENGTH, structure="header")
    (magic, version, backing_offset, backing_length, cluster_bits, size, crypt, l1_entries, l1_offset, reftable_offset,
     reftable_clusters, snapshot_count, snapshots_offset) = _V2.unpack(raw)  # fmt: skip
    if magic != MAGIC:
        raise _bad(file, "the magic number is not QFI\\xfb; this is no QCOW2 image", 0)
    if version not in (2, 3):
        raise Unsupported(
            f"{file.path.name}: QCOW version {version} is not supported; this reader knows versions 2 and 3",
            reason="VERSION_UNSUPPORTED", metadata={"version": str(version)},
        )  # fmt: skip
    if not MIN_CLUSTER_BITS <= cluster_bits <= MAX_CLUSTER_BITS:
        raise _bad(file, f"cluster_bits {cluster_bits} is outside 9-21", 20)
    incompatible = compatible = autoclear = 0
    refcount_order, length, compression = 4, V2_LENGTH, 0
    if version == 3:
        incompatible, compatible, autoclear, refcount_order, length = _V3.unpack(
            file.pread(V2_LENGTH, V3_LENGTH - V2_LENGTH, structure="header")
        )
        if length < V3_LENGTH or length % 8 or length > 1 << cluster_bits:
            raise _bad(file, f"header_length {length} is impossible", 100)
        if refcount_order > 6:
            raise _bad(file, f"refcount_order {refcount_order} is above 6", 96)
        if length > V3_LENGTH:
            compression = file.pread(V3_LENGTH, 1, structure="header")[0]
    extensions = parse_extensions(file, length, _extensions_end(file, backing_offset, length, 1 << cluster_bits))
    _refuse_features(file, incompatible, crypt, extensions)
    if compression not in COMPRESSION_NAMES or (compression != 0) != bool(incompatible & INCOMPAT_COMPRESSION):
        raise _bad(file, f"compression type {compression} and its feature bit contradict each other", 104)
    if incompatible & INCOMPAT_EXTENDED_L2 and cluster_bits < 14:
        raise _bad(file, "extended L2 entries need clusters of at least 16 KiB", 20)
    header = Header(
        version, cluster_bits, size, l1_entries, l1_offset, reftable_offset, reftable_clusters, snapshot_count,
        snapshots_offset, incompatible, compatible, autoclear, refcount_order, length,
        COMPRESSION_NAMES[compression], _backing_name(file, backing_offset, backing_length, 1 << cluster_bits),
        extensions,
    )  # fmt: skip
    _check_tables(file, header)
    return header


def _bad(file: ImageFile, what: str, offset: int, structure: str = "header") -> MalformedImage:
    return MalformedImage(f"{file.path.name}: {structure}: {what}", structure=structure, offset=offset)


def _extensions_end(file: ImageFile, backing_offset: int, length: int, cluster_size: int) -> int:
    """Extensions end at the backing file's name or with the first cluster."""
    end = min(cluster_size, file.size)
    return min(end, backing_offset) if backing_offset > length else end


def _refuse_features(file: ImageFile, incompatible: int, crypt: int, extensions: tuple[Extension, ...]) -> None:
    name = file.path.name
    unknown = incompatible & ~INCOMPAT_KNOWN
    if unknown:
        table = next((e for e in extensions if e.kind == EXT_FEATURE_NAMES), None)
        names = feature_names(table, 0) if table else {}
        listed = ", ".join(
            f"bit {bit}" + (f" ({names[bit]})" if bit in names else "") for bit in range(64) if unknown >> bit & 1
        )
        raise Unsupported(
            f"{name}: needs incompatible features that this reader does not know: {listed}",
            reason="FEATURE_UNSUPPORTED", metadata={"features": listed},
        )  # fmt: skip
    if crypt:
        method = {1: "AES", 2: "LUKS"}.get(crypt, f"method {crypt}")
        raise Unsupported(
            f"{name}: is encrypted ({method}); decrypt it with the tool that made it first",
            reason="ENCRYPTION_UNSUPPORTED", metadata={"method": method},
        )  # fmt: skip
    if incompatible & INCOMPAT_DATA_FILE:
        raise Unsupported(
            f"{name}: keeps its data in an external file, which is not supported; convert it to a single file first",
            reason="EXTERNAL_DATA_UNSUPPORTED",
        )


def _backing_name(file: ImageFile, offset: int, length: int, cluster_size: int) -> str | None:
    if not offset:
        return None
    if not 0 < length <= MAX_BACKING_NAME:
        raise _bad(file, f"backing file name of {length} bytes is outside 1-{MAX_BACKING_NAME}", 16)
    if offset < V2_LENGTH or offset + length > cluster_size:
        raise _bad(file, f"backing file name at {offset} is outside the first cluster", 8)
    return file.pread(offset, length, structure="backing file name").decode("utf-8", "surrogateescape")


def _check_tables(file: ImageFile, header: Header) -> None:
    """Tables are aligned, below the limits and inside the file."""
    size, cluster = file.size, header.cluster_size
    if header.size >= 1 << 63:
        raise _bad(file, f"virtual size {header.size} is above 2^63", 24)
    if header.l1_entries * 8 > MAX_L1_BYTES:
        raise _bad(file, f"L1 table of {header.l1_entries} entries is above {MAX_L1_BYTES // 8}", 36)
    if header.l1_entries < header.geometry(size).l1_entries:
        raise _bad(file, f"L1 table of {header.l1_entries} entries is too small for {header.size} bytes", 36)
    if header.reftable_clusters * cluster > max(MAX_REFTABLE_BYTES, cluster):
        raise _bad(file, f"refcount table of {header.reftable_clusters} clusters is too large", 56)
    for name, offset, length, at in (
        ("L1 table", header.l1_offset, header.l1_entries * 8, 40),
        ("refcount table", header.reftable_offset, header.reftable_clusters * cluster, 48),
    ):
        if length and (offset % cluster or not offset):
            raise _bad(file, f"offset {offset} is not a cluster's start after the header", at, name)
        if length and offset + length > size:
            raise MalformedImage(
                f"{file.path.name}: {name} at offset {offset} needs {length} bytes, but the file has only {size}; "
                "it is truncated",
                structure=name, offset=offset, reason="IMAGE_TRUNCATED",
            )  # fmt: skip

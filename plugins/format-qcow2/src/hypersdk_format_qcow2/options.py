"""The options of `create`, by qemu-img's names and value syntax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.data.formatoptions import FormatOptions
from hypersdk.errors import Unsupported

from hypersdk_format_qcow2.geometry import MAX_CLUSTER_BITS, MIN_CLUSTER_BITS

HELP: dict[str, str] = {
    "compat": "1.1 (or v3), 0.10 (or v2): version of the format (default 1.1)",
    "cluster_size": "bytes, 512 to 2M, a power of two (default 64k)",
    "compression_type": "zlib, zstd: how compressed clusters are stored (default zlib)",
    "compress": "on, off: compress clusters that get smaller by it, as qemu-img's -c (default off)",
    "lazy_refcounts": "on, off: let writers of the image postpone refcounts (default off)",
    "refcount_bits": "1, 2, 4, 8, 16, 32, 64: width of a refcount (default 16)",
    "extended_l2": "on, off: L2 entries with 32 subclusters; clusters of 16k or more (default off)",
    "preallocation": "off: only what holds data is allocated (default off)",
    "backing_file": "plain name of a file in the image's directory: what is not written here is read from it",
    "backing_fmt": "format of backing_file, which needs it",
}
_NOT_WRITTEN = frozenset({"data_file", "data_file_raw", "encryption", "encrypt.format", "encrypt.key-secret"})
_SWITCH = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Parsed options; the defaults are qemu-img's."""

    version: int = 3
    cluster_bits: int = 16
    compression_type: str = "zlib"
    compress: bool = False
    lazy_refcounts: bool = False
    refcount_order: int = 4
    extended_l2: bool = False
    backing_file: str = ""
    backing_fmt: str = ""


def parse_create_options(options: Mapping[str, str]) -> CreateOptions:
    """Raises InvalidArgument with a violation for the option at fault; Unsupported for those that qemu-img
    has and this writer has not."""
    for name in options:
        if name in _NOT_WRITTEN:
            raise Unsupported(
                f"qcow2 images with {name} are not written here; known options: {', '.join(HELP)}",
                reason="OPTION_UNSUPPORTED", metadata={"option": name},
            )  # fmt: skip
    given = FormatOptions("qcow2", options, HELP, doing="creating")
    if given.text("preallocation", "off") != "off":
        raise Unsupported(
            f"preallocation={options['preallocation']} is not supported; only off is",
            reason="OPTION_UNSUPPORTED", metadata={"option": "preallocation"},
        )  # fmt: skip
    version = given.choice("compat", {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}, "1.1")
    size = given.size(
        "cluster_size", "65536", wanted="a power of two from 512 to 2M", accept=_is_cluster_size, units="km", iec=False
    )
    parsed = CreateOptions(
        version=version,
        cluster_bits=size.bit_length() - 1,
        compression_type=given.one_of("compression_type", ("zlib", "zstd"), "zlib"),
        compress=given.choice("compress", _SWITCH, "off"),
        lazy_refcounts=given.choice("lazy_refcounts", _SWITCH, "off"),
        refcount_order=given.choice("refcount_bits", {str(1 << n): n for n in range(7)}, "16"),
        extended_l2=given.choice("extended_l2", _SWITCH, "off"),
        backing_file=given.text("backing_file"),
        backing_fmt=given.text("backing_fmt"),
    )
    if version == 2:
        for name, used in (
            ("compression_type", parsed.compression_type != "zlib"), ("lazy_refcounts", parsed.lazy_refcounts),
            ("refcount_bits", parsed.refcount_order != 4), ("extended_l2", parsed.extended_l2),
        ):  # fmt: skip
            if used:
                raise given.wrong(name, f"{options[name]} needs compat=1.1")
    if parsed.extended_l2 and parsed.cluster_bits < 14:
        raise given.wrong("extended_l2", "needs a cluster_size of at least 16k")
    if parsed.backing_file and not parsed.backing_fmt:
        raise given.wrong("backing_fmt", "must name the format of backing_file: nobody may guess it")
    if parsed.backing_fmt and not parsed.backing_file:
        raise given.wrong("backing_fmt", "needs backing_file")
    return parsed


def _is_cluster_size(size: int) -> bool:
    return size.bit_count() == 1 and MIN_CLUSTER_BITS <= size.bit_length() - 1 <= MAX_CLUSTER_BITS

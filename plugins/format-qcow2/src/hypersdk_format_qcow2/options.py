"""The options of `create`, by qemu-img's names and value syntax."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hypersdk.errors import FieldViolation, InvalidArgument, Unsupported

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
_SIZE = re.compile(r"^(\d{1,10})([kKmM]?)[bB]?$")
_SUFFIX = {"": 0, "k": 10, "m": 20}


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
        if name not in HELP:
            raise _wrong(name, f"is not a qcow2 option; known: {', '.join(HELP)}", "OPTION_UNKNOWN")
    if options.get("preallocation", "off") != "off":
        raise Unsupported(
            f"preallocation={options['preallocation']} is not supported; only off is",
            reason="OPTION_UNSUPPORTED", metadata={"option": "preallocation"},
        )  # fmt: skip
    version = _choice(options, "compat", {"0.10": 2, "v2": 2, "1.1": 3, "v3": 3}, "1.1")
    parsed = CreateOptions(
        version=version,
        cluster_bits=_cluster_bits(options.get("cluster_size", "65536")),
        compression_type=("zlib", "zstd")[_choice(options, "compression_type", {"zlib": 0, "zstd": 1}, "zlib")],
        compress=_switch(options, "compress"),
        lazy_refcounts=_switch(options, "lazy_refcounts"),
        refcount_order=_choice(options, "refcount_bits", {str(1 << n): n for n in range(7)}, "16"),
        extended_l2=_switch(options, "extended_l2"),
        backing_file=options.get("backing_file", ""),
        backing_fmt=options.get("backing_fmt", ""),
    )
    if version == 2:
        for name, used in (
            ("compression_type", parsed.compression_type != "zlib"), ("lazy_refcounts", parsed.lazy_refcounts),
            ("refcount_bits", parsed.refcount_order != 4), ("extended_l2", parsed.extended_l2),
        ):  # fmt: skip
            if used:
                raise _wrong(name, f"{options[name]} needs compat=1.1", "OPTION_INVALID")
    if parsed.extended_l2 and parsed.cluster_bits < 14:
        raise _wrong("extended_l2", "needs a cluster_size of at least 16k", "OPTION_INVALID")
    if parsed.backing_file and not parsed.backing_fmt:
        raise _wrong("backing_fmt", "must name the format of backing_file: nobody may guess it", "OPTION_INVALID")
    if parsed.backing_fmt and not parsed.backing_file:
        raise _wrong("backing_fmt", "needs backing_file", "OPTION_INVALID")
    return parsed


def _choice(options: Mapping[str, str], name: str, values: Mapping[str, int], default: str) -> int:
    given = options.get(name, default)
    if given not in values:
        raise _wrong(name, f"must be one of {', '.join(values)}, not {given!r}", "OPTION_INVALID")
    return values[given]


def _switch(options: Mapping[str, str], name: str) -> bool:
    return bool(_choice(options, name, {"on": 1, "off": 0, "true": 1, "false": 0, "yes": 1, "no": 0}, "off"))


def _cluster_bits(text: str) -> int:
    match = _SIZE.match(text)
    size = int(match[1]) << _SUFFIX[match[2].lower()] if match else 0
    bits = size.bit_length() - 1
    if size != 1 << max(bits, 0) or not MIN_CLUSTER_BITS <= bits <= MAX_CLUSTER_BITS:
        raise _wrong("cluster_size", f"must be a power of two from 512 to 2M, not {text!r}", "OPTION_INVALID")
    return bits


def _wrong(name: str, what: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{name} {what}", reason=reason, violations=(FieldViolation(f"options.{name}", what),))

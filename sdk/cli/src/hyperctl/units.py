"""Sizes, durations and rates, as people write and read them. Pure.

A size without a unit, or with K, M, G, T, P, is binary, as in qemu-img; KiB … PiB too; kB, MB … are decimal.
"""

from __future__ import annotations

import re

from hypersdk.errors import InvalidArgument

_BINARY = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_BYTES = 2**63 - 1


def parse_size(text: str) -> int:
    """`10GiB`, `200MiB`, `1.5G`, `4096`, `10GB` in bytes. Raises InvalidArgument (SIZE_INVALID)."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidArgument(
            f"{text[:40]!r} is no size; write 4096, 200MiB, 10GiB (binary) or 10GB (decimal)", reason="SIZE_INVALID"
        )
    number, prefix, suffix = found[1], found[2].lower(), (found[3] or "").lower()
    base = 1000 if prefix and suffix == "b" else 1024
    factor = base ** _BINARY[prefix]
    value = int(number) * factor if "." not in number else int(float(number) * factor)
    if value > _MAX_BYTES:
        raise InvalidArgument(f"{text[:40]!r} is more than 8 EiB", reason="SIZE_INVALID")
    return value


def parse_duration(text: str) -> float:
    """`1h30m`, `90s`, `500ms`, `90` (seconds) in seconds. Raises InvalidArgument (DURATION_INVALID)."""
    plain = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        return float(plain)
    parts = _PART.findall(plain)
    if not parts or "".join(number + unit for number, unit in parts) != plain:
        raise InvalidArgument(
            f"{text[:40]!r} is no duration; write 90s, 1h30m, 500ms or 2d", reason="DURATION_INVALID"
        )
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def format_bytes(value: float) -> str:
    """`1.5 GiB`; `-` for a negative (unknown) number."""
    if value < 0:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_duration(seconds: float) -> str:
    """`5s`, `2m05s`, `1h02m`, `3d04h`; `-` for a negative (unknown) number."""
    if seconds < 0:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"

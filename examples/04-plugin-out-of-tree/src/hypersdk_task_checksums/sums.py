"""The file SHA256SUMS, as sha256sum(1) writes and reads it: `<64 hex digits>  <name>`, one line an object.

Names are relative to the file's folder. A name with a backslash or a line break is escaped as sha256sum does it, with a
backslash in front of the line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hypersdk.errors import DataLoss

NAME = "SHA256SUMS"
_LINE = re.compile(r"(\\?)([0-9a-f]{64}) [ *](.+)")


def encode(sums: Mapping[str, str]) -> bytes:
    """`sums`: name → digest. In order of name."""
    return "".join(_line(name, digest) for name, digest in sorted(sums.items())).encode()


def _line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest}  {escaped}\n"


def decode(data: bytes) -> dict[str, str]:
    """Name → digest. Raises DataLoss (SUMS_MALFORMED) that names the line."""
    found: dict[str, str] = {}
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as exc:
        raise DataLoss(f"{NAME} is not text: {exc.reason}", reason="SUMS_MALFORMED") from exc
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataLoss(f"line {number} of {NAME} is no checksum", reason="SUMS_MALFORMED")
        name = match[3]
        if match[1]:
            name = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), name)
        found[name] = match[2]
    return found

"""What a manifest says that its host needs of the machine: files, memory, processor, descriptors, programs.

    "filesystem": ["any:read"]                   what is not said is not granted: [] is nothing but Python and the
                                                 plugin's own files. Without the field see docs/plugins/security.md
        any:read, any:write                      every file but the daemon's own; read, or read and write
        config:FIELD                             what that field of a connection's config names, an absolute path
        path:/etc/acme, path:/var/acme:write     that path
    "limits": {
      "memory_bytes": 268435456,                 resident; above it the host is killed
      "open_files": 256, "processes": 0,         programs it may have running
      "cpu_share": 0.5                           of one core, over 10 s without a call in flight; above it it is killed
    }

Limits are wishes: the daemon's settings are never exceeded. They are the host's; a runner moves data and has others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NEED = re.compile(r"any:(read|write)|config:[A-Za-z_][A-Za-z0-9_]{0,62}|path:/[^\x00:]{0,4000}(:write)?")
RANGES: dict[str, tuple[type, float, float]] = {
    "memory_bytes": (int, 64 << 20, 1 << 40),
    "open_files": (int, 256, 1 << 20),  # a host keeps its own descriptors above 200
    "processes": (int, 0, 4096),
    "cpu_share": (float, 0.05, 64.0),
}

Fault = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """None: the daemon's own."""

    memory_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None
    cpu_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name in RANGES if (value := getattr(self, name)) is not None}


def parse_limits(data: Any, fault: Fault) -> Limits:
    """From `limits` of a manifest; faults are told by (path, text)."""
    if not isinstance(data, dict):
        fault("limits", "must be an object")
        return Limits()
    for extra in data.keys() - RANGES.keys():
        fault(f"limits.{extra}", "is not a limit")
    found: dict[str, Any] = {}
    for name, (kind, low, high) in RANGES.items():
        if name not in data:
            continue
        value = data[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (kind is int and not isinstance(value, int)) or not low <= value <= high:
            number_is = "a whole number" if kind is int else "a number"
            fault(f"limits.{name}", f"must be {number_is} from {low:g} to {high:g}")
        else:
            found[name] = kind(value)
    return Limits(**found)


def parse_filesystem(data: Any, fault: Fault) -> tuple[str, ...] | None:
    """From `filesystem` of a manifest; None when it says nothing."""
    if data is None:
        return None
    if not isinstance(data, list) or not all(isinstance(need, str) and NEED.fullmatch(need) for need in data):
        fault("filesystem", "must be a list of any:read, any:write, config:FIELD, path:/PATH and path:/PATH:write")
        return None
    return tuple(data)

"""Printing of the image commands: data on stdout, without rich."""

from __future__ import annotations

import sys
from typing import Any


def print_line(text: str) -> None:
    """One line on stdout, with control characters that came from an image made visible."""
    sys.stdout.write("".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) + "\n")


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    import json

    sys.stdout.write(json.dumps(value, indent=4, ensure_ascii=False, default=str) + "\n")


def hyphened(value: Any) -> Any:
    """Keys as qemu-img writes them: `virtual_size` becomes `virtual-size`, at every depth."""
    if isinstance(value, dict):
        return {str(k).replace("_", "-"): hyphened(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [hyphened(v) for v in value]
    return value

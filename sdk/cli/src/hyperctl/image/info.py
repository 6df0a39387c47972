"""hyperctl image info."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from hyperctl.image.printing import hyphened, print_json, print_line
from hyperctl.units import format_bytes

_FIRST = ("filename", "format", "virtual_size", "actual_size", "file_size")


def run(arguments: argparse.Namespace) -> int:
    """Print what the image is. JSON has qemu-img's names where it has the same thing (`virtual-size`); of a chain it
    is a list, the image first."""
    from hypersdk.data.images import FormatRegistry, backing_chain, image_info

    registry = FormatRegistry.installed()
    if not arguments.chain:
        info = image_info(arguments.file, registry=registry, format_name=arguments.source_format)
        if arguments.output == "json":
            print_json(_as_qemu(info))
        else:
            _print(info)
        return 0
    chain = backing_chain(arguments.file, registry=registry, format_name=arguments.source_format)
    if arguments.output == "json":
        print_json([_as_qemu(info) for info in chain])
        return 0
    for number, info in enumerate(chain):
        if number:
            print_line("")
        _print(info)
    return 0


def _print(info: dict[str, Any]) -> None:
    print_line(f"image: {info['filename']}")
    print_line(f"file format: {info['format']}")
    print_line(f"virtual size: {_both(info['virtual_size'])}")
    print_line(f"disk size: {format_bytes(info['actual_size'])}")
    print_line(f"file size: {_both(info['file_size'])}")
    for line in _human({k: v for k, v in info.items() if k not in (*_FIRST, "details")}, ""):
        print_line(line)
    if info.get("details"):
        print_line("Format specific information:")
        for line in _human(info["details"], "    "):
            print_line(line)


def _both(value: int) -> str:
    return f"{format_bytes(value)} ({value} bytes)"


def _as_qemu(info: dict[str, Any]) -> dict[str, Any]:
    details = info.get("details")
    out = {k: v for k, v in info.items() if k != "details"}
    if details:
        out["format_specific"] = {"type": info["format"], "data": details}
    found: dict[str, Any] = hyphened(out)
    return found


def _human(values: dict[str, Any], pad: str) -> Iterator[str]:
    for key, value in values.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            yield f"{pad}{label}:"
            yield from _human(value, pad + "    ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{pad}{label}:"
            for item in value:
                first, *rest = _human(item, pad + "      ")
                yield f"{pad}    - {first.strip()}"
                yield from rest
        elif value not in (None, "", []):
            yield f"{pad}{label}: {str(value).lower() if isinstance(value, bool) else value}"

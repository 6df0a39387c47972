"""`-o` of the commands that have a target format: parsed, or listed by `-o help`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hyperctl.image.printing import print_line
from hyperctl.pairs import parse_option_list

if TYPE_CHECKING:
    from hypersdk.data.images import FormatRegistry

HELP = frozenset({"help", "?"})


def target_options(
    arguments: argparse.Namespace, target_format: str, registry: FormatRegistry
) -> dict[str, str] | None:
    """The options; None when they were asked for and are printed."""
    options = parse_option_list(arguments.options)
    if HELP & options.keys():
        known = registry.get(target_format).create_options()
        print_line(f"Options of {target_format}:" if known else f"{target_format} has no options.")
        width = max(map(len, known), default=0)
        for name, text in known.items():
            print_line(f"  {name:<{width}}  {text}")
        return None
    return options


def missing_files(arguments: argparse.Namespace) -> list[str]:
    """Positional arguments that were left out, which only `-o help` allows."""
    asks_for_help = any(HELP & set(text.split(",")) for text in getattr(arguments, "options", None) or ())
    shown = {"source": "SRC", "target": "DST", "file": "FILE"}
    return [] if asks_for_help else [name for dest, name in shown.items() if getattr(arguments, dest, None) == ""]

"""`-o` of the commands that have a target format: parsed, or listed by `-o help`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hypersdk.errors import InvalidArgument

from hyperctl.image.printing import print_line
from hyperctl.pairs import parse_option_list

if TYPE_CHECKING:
    from hypersdk.data.images import FormatRegistry

_HELP = frozenset({"help", "?"})


def target_options(
    arguments: argparse.Namespace, target_format: str, registry: FormatRegistry
) -> dict[str, str] | None:
    """The options; None when they were asked for and are printed. Raises InvalidArgument (FILE_MISSING) when a file
    is not named, which only `-o help` allows."""
    options = parse_option_list(arguments.options)
    if _HELP & options.keys():
        known = registry.get(target_format).create_options()
        print_line(f"Options of {target_format}:" if known else f"{target_format} has no options.")
        width = max(map(len, known), default=0)
        for name, text in known.items():
            print_line(f"  {name:<{width}}  {text}")
        return None
    for dest, shown in (("source", "SRC"), ("target", "DST"), ("file", "FILE")):
        if getattr(arguments, dest, None) == "":
            raise InvalidArgument(f"{shown} is missing", reason="FILE_MISSING")
    return options

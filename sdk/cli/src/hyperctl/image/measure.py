"""hyperctl image measure."""

from __future__ import annotations

import argparse

from hypersdk.errors import InvalidArgument

from hyperctl.image.printing import print_json, print_line
from hyperctl.image.probing import source_format
from hyperctl.pairs import parse_option_list


def run(arguments: argparse.Namespace) -> int:
    """Print the most bytes that the image would take in the target format."""
    from hypersdk.data.images import FormatRegistry, measure

    if not arguments.target_format:
        raise InvalidArgument("measure needs the target format: -O qcow2", reason="TARGET_FORMAT_MISSING")
    registry = FormatRegistry.installed()
    required = measure(
        arguments.file,
        registry=registry,
        format_name=source_format(arguments.file, arguments.source_format, registry),
        target_format=arguments.target_format,
        options=parse_option_list(arguments.options),
    )
    if arguments.output == "json":
        print_json({"required": required})
    else:
        print_line(f"required size: {required}")
    return 0

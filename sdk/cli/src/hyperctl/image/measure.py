"""hyperctl image measure."""

from __future__ import annotations

import argparse

from hypersdk.errors import InvalidArgument

from hyperctl.image.options import target_options
from hyperctl.image.printing import print_json, print_line
from hyperctl.image.probing import source_format


def run(arguments: argparse.Namespace) -> int:
    """Print the most bytes that the image would take in the target format."""
    from hypersdk.data.images import FormatRegistry, measure

    if not arguments.target_format:
        raise InvalidArgument("measure needs the target format: -O qcow2", reason="TARGET_FORMAT_MISSING")
    registry = FormatRegistry.installed()
    options = target_options(arguments, arguments.target_format, registry)
    if options is None:
        return 0
    required = measure(
        arguments.file,
        registry=registry,
        format_name=source_format(arguments.file, arguments.source_format, registry),
        target_format=arguments.target_format,
        options=options,
    )
    if arguments.output == "json":
        print_json({"required": required})
    else:
        print_line(f"required size: {required}")
    return 0

"""hyperctl image map."""

from __future__ import annotations

import argparse
import json
import sys

from hyperctl.image.printing import print_line
from hyperctl.image.probing import source_format


def run(arguments: argparse.Namespace) -> int:
    """Print the extents, one a line, as they are found: a disk may have millions."""
    from hypersdk.data.images import FormatRegistry, image_map

    registry = FormatRegistry.installed()
    chosen = source_format(arguments.file, arguments.source_format, registry)
    extents = image_map(arguments.file, registry=registry, format_name=chosen)
    if arguments.output == "json":
        separator = "["
        for extent in extents:
            sys.stdout.write(f"{separator}{json.dumps(extent)}")
            separator = ",\n"
        sys.stdout.write("]\n" if separator != "[" else "[]\n")
        return 0
    print_line(f"{'Offset':<18}{'Length':<18}{'Mapped to':<18}Kind")
    for extent in extents:
        place = f"{extent['offset']:#x}" if "offset" in extent else ""
        kind = "data" if extent["data"] else "zero"
        print_line(f"{extent['start']:<#18x}{extent['length']:<#18x}{place:<18}{kind}")
    return 0

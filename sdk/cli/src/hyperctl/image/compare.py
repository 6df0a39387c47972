"""hyperctl image compare."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hypersdk.errors import HyperError, from_exception

from hyperctl.failures import report
from hyperctl.image.printing import print_line
from hyperctl.image.probing import source_format
from hyperctl.progress import ProgressLine

if TYPE_CHECKING:
    from hypersdk.data.pipeline import CopyProgress

SAME = 0
DIFFERENT = 1
_ERROR = 2


def run(arguments: argparse.Namespace) -> int:
    """Print where the first difference is. An error's exit status is never 1, which means "different" here."""
    try:
        return _compare(arguments)
    except (HyperError, OSError) as exc:
        return max(_ERROR, report(from_exception(exc), "image compare"))


def _compare(arguments: argparse.Namespace) -> int:
    from hypersdk.data.images import FormatRegistry, compare, open_image
    from hypersdk.data.pipeline import CopyHooks

    registry = FormatRegistry.installed()
    chain = {"chain": "on"} if arguments.chain else None
    line = ProgressLine("comparing", enabled=arguments.progress)

    def show(progress: CopyProgress) -> None:
        line.update(progress.offset, progress.bytes_total)

    formats = [
        source_format(path, given, registry, quiet=arguments.quiet)
        for path, given in (
            (arguments.first, arguments.source_format), (arguments.second, arguments.second_format),
        )
    ]  # fmt: skip
    with (
        open_image(arguments.first, registry=registry, format_name=formats[0], options=chain) as first,
        open_image(arguments.second, registry=registry, format_name=formats[1], options=chain) as second,
    ):
        found = compare(first, second, strict=arguments.strict, hooks=CopyHooks(progress=show))
        sizes = (first.size, second.size)
    line.finish()
    if found is not None:
        what = {"content": "Content mismatch", "size": "Size mismatch", "allocation": "Allocation mismatch"}
        print_line(f"{what.get(found.kind, 'Mismatch')} at offset {found.offset}!")
        return DIFFERENT
    if not arguments.quiet:
        if sizes[0] != sizes[1]:
            print_line("Warning: image size mismatch; the rest of the longer one is zeros.")
        print_line("Images are identical.")
    return SAME


"""hyperctl image check."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from hypersdk.errors import HyperError, Unsupported, from_exception

from hyperctl.failures import report as failure
from hyperctl.image.printing import hyphened, print_json, print_line

FAILED = 1
CORRUPT = 2
LEAKS = 3
NO_CHECK = 63


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong with the image's tables. Exit status as qemu-img's: what is left after a repair counts, and
    a check that could not be made is 1, whatever the error."""
    from hypersdk.data.images import FormatRegistry, check

    try:
        report = check(
            arguments.file,
            registry=FormatRegistry.installed(),
            format_name=arguments.source_format,
            repair=arguments.repair == "leaks",
            mend=arguments.repair == "all",
        )
    except Unsupported as exc:
        sys.stderr.write(f"hyperctl: {exc.message}\n  reason: {exc.reason}\n")
        return NO_CHECK if exc.reason == "CHECK_UNSUPPORTED" else FAILED
    except (HyperError, OSError) as exc:
        failure(from_exception(exc), "image check")
        return FAILED
    if arguments.output == "json":
        print_json(hyphened({"filename": arguments.file, **dataclasses.asdict(report)}))
    else:
        for message in report.messages:
            print_line(message)
        print_line(f"{report.corruptions} corruptions, {report.leaks} leaks, {report.repaired} repaired")
        if report.total_units:
            share = 100 * report.allocated_units / report.total_units
            print_line(f"{report.allocated_units}/{report.total_units} = {share:.2f}% allocated")
    if report.corruptions:
        return CORRUPT
    return LEAKS if report.leaks else 0
